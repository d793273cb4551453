"""The command that runs a paper's experiment."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

from polyrank.cli.base import app, located, out, say


@app.command()
def reproduce(
    name: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(
            metavar="[NAME]", help="byun-lee, fedhl, catchup, frozen-head, codecs or toy."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The smallest telling version.")] = False,
    data: Annotated[
        Path, typer.Option(help="Local copies of the data sets; others come from the hub.")
    ] = Path("../shared/data"),
    to: Annotated[Path, typer.Option("--out", help="Where results go.")] = Path("experiments"),
    docs: Annotated[Path, typer.Option(help="Where the page of results goes.")] = Path("docs"),
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    share: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Run a paper's experiment, or go on with it, and write the page of results anew."""
    from polyrank.cli.show import Bar
    from polyrank.reproduce import run

    with located(None):
        if share and name:
            k, n = map(int, share.split("/"))
            run.work(name, to, data, (k, n), quick)
            return
        if name is not None:
            with terminable(), Bar(out, name) as bar:
                run.reproduce(name, to, data, workers, quick, bar.show)
        say(f"results: {run.page(to, docs)}")


@contextmanager
def terminable() -> Iterator[None]:
    """Let a scheduler's SIGTERM stop the block as Ctrl-C does: what is done is kept."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
