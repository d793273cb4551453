"""`python -m bench run` measures; `python -m bench compare BASE` holds it against a revision."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.compare import RESULTS, Change, NoBase, changes, committed, latest, measured
from bench.frame import SECTIONS, Size, measure
from bench.machine import ROOT
from bench.page import cell, page
from bench.section import Row

app = typer.Typer(add_completion=False, no_args_is_help=True)
console = Console(stderr=True)
Sizes = Literal["full", "quick", "tiny"]
Threads = Annotated[int, typer.Option(help="Threads of everything that is measured.")]
Only = Annotated[str, typer.Option(help="Sections, with commas; all where not given.")]
EVERY, LATEST = ",".join(SECTIONS), ROOT / RESULTS
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@app.command()
def run(
    size: Annotated[str, typer.Option(help="full, quick or tiny.")] = "full",
    only: Only = EVERY,
    threads: Threads = CORES,
    into: Annotated[Path, typer.Option(help="The JSON file to write.")] = LATEST,
    page_into: Annotated[
        Path | None, typer.Option("--page", help="The page; docs/performance.md after a full run.")
    ] = None,
) -> None:
    """Measure, and write the results as they come."""
    names = [name for name in only.split(",") if name]
    if unknown := [name for name in names if name not in SECTIONS]:
        raise typer.BadParameter(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    if size not in ("full", "quick", "tiny"):
        raise typer.BadParameter(f"{size!r} is not one of full, quick, tiny", param_hint="--size")
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("measuring the machine")

        def say(name: str, row: Row | None) -> None:
            progress.update(task, description=name)
            if row is not None:
                progress.console.print(f"{name}: {_line(row)}", highlight=False, markup=False)

        whole = measure(names, cast(Size, size), threads, into, say)
    if page_into is None and size == "full" and into == LATEST:
        page_into = ROOT / "docs/performance.md"
    if page_into is not None:
        page_into.write_text(page(json.loads(into.read_text())))
    if not whole:
        console.print("interrupted; what was measured until then is written")
        raise typer.Exit(130)


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="A revision of this repository.")],
    measure_now: Annotated[
        bool, typer.Option("--measure", help="Measure both revisions here and now.")
    ] = False,
    size: Annotated[str, typer.Option(help="With --measure: full, quick or tiny.")] = "quick",
    only: Only = EVERY,
    threads: Threads = CORES,
) -> None:
    """Ratios then and now; ends with 1 where one got worse beyond the spread."""
    try:
        if measure_now:
            then, now = (measured(rev, size, threads, only) for rev in (base, None))
        else:
            then, now = committed(base), latest()
    except NoBase as error:
        console.print(f"bench: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    found = changes(then, now)
    _print(base, then, now, found)
    raise typer.Exit(int(any(change.worse for change in found)))


def _print(base: str, then: dict[str, Any], now: dict[str, Any], found: list[Change]) -> None:
    out = Console()
    if then["machine"] != now["machine"]:
        out.print(f"not the same machine: {then['machine']} then, {now['machine']} now")
    if then["size"] != now["size"]:
        out.print(f"a {then['size']} run then, a {now['size']} run now")
    table = Table("ratio", base, "now", "spread", "")
    for change in found:
        values = (cell(change.then), cell(change.now), f"{change.spread:.0%}")
        table.add_row(change.name, *values, "worse" if change.worse else "")
    out.print(table)


def _line(row: Row) -> str:
    """A row in few words, without the columns that are empty."""
    return ", ".join(f"{name} {cell(value)}" for name, value in row.items() if value is not None)


if __name__ == "__main__":
    app()
