"""The commands for finished adapters: aggregate, export, inspect, diff."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table as Grid

from polyrank.cli.base import app, located, out, say

if TYPE_CHECKING:
    from polyrank.adapters.sheet import Sheet

Out = Annotated[Path, typer.Option("--out", help="The folder to write.")]
Plot = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads it at run time
    typer.Option(help="Also draw it: FILE.svg is one figure, FILE.html a page of all."),
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result there.")]


@app.command()
def aggregate(  # noqa: PLR0913 - a parameter for every option
    adapters: Annotated[
        list[Path], typer.Argument(metavar="ADAPTER...", help="PEFT folders, or run folders.")
    ],
    to: Out,
    algorithm: Annotated[
        str, typer.Option(help="Any that needs no rounds: flexlora, flora, replicate…")
    ] = "flexlora",
    weights: Annotated[
        str, typer.Option(help="data, uniform, or a number for each: 0.2,0.8.")
    ] = "data",
    examples: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="For data: training examples of each, where no file says them: 120,80."),
    ] = None,
    rank: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Cut the result to this rank (best approximation)."),
    ] = None,
    option: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="An option of the algorithm: tau=0.95. May be repeated."),
    ] = None,
    base: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The base of them all, where they call it differently."),
    ] = None,
    overwrite: Replace = False,
) -> None:
    """Make one adapter of several, of different ranks and alphas, without training."""
    from polyrank.adapters import combining

    with located(None):
        asked = combining.Asked(
            tuple(adapters), to, algorithm, weights, examples, rank, tuple(option or ()), base,
            overwrite,
        )  # fmt: skip
        for line in combining.combine(asked):
            say(line)


@app.command()
def export(  # noqa: PLR0913 - a parameter for every option
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run, or an adapter.")],
    to: Out,
    rank: Annotated[
        Optional[int],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="The best adapter of this rank."),
    ] = None,
    energy: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="The smallest rank that keeps this share of the energy: 0.95."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="The exact update, at any rank.")] = False,
    merge: Annotated[bool, typer.Option("--merge", help="The base with the update in it.")] = False,
    engine: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--for", help="vllm: at a rank and in a form that it serves."),
    ] = None,
    overwrite: Replace = False,
) -> None:  # fmt: skip
    """Write a run's result as an adapter of any rank, or as a whole model, with a model card."""
    from polyrank.adapters import exporting

    with located(None):
        asked = exporting.Asked(source, to, rank, energy, full, merge, engine, overwrite)
        for line in exporting.export(asked):
            say(line)


@app.command()
def inspect(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT or run folder.")],
    plot: Plot = None,
) -> None:
    """Norms, spectra and effective ranks of an adapter by layer; what a smaller rank would lose."""
    from polyrank.adapters.inspecting import inspect as inspected
    from polyrank.adapters.opened import opened

    with located(None):
        _checked(plot)
        _show(inspected(opened(adapter)), plot)


@app.command()
def diff(
    one: Annotated[Path, typer.Argument(metavar="A", help="A PEFT or run folder.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another of the same model.")],
    plot: Plot = None,
) -> None:
    """How far two adapters are apart, and the angles between the subspaces that they use."""
    from polyrank.adapters.comparing import diff as compared
    from polyrank.adapters.opened import opened

    with located(None):
        _checked(plot)
        _show(compared(opened(one), opened(other)), plot)


def _checked(plot: Path | None) -> None:
    """Whether the picture can be drawn: found out before the work is done."""
    from polyrank.adapters import picture

    if plot is not None:
        picture.check(plot)


def _show(sheet: "Sheet", plot: Path | None) -> None:
    """Print a sheet, and draw it where that is asked for."""
    from polyrank.adapters import picture

    say(sheet.title)
    for line in sheet.lines:
        say(f"  {line}")
    for one in sheet.tables:
        grid = Grid(title=one.title, title_justify="left")
        for i, column in enumerate(one.columns):
            grid.add_column(column, justify="right" if i else "left", overflow="fold")
        for row in one.rows:
            grid.add_row(*row)
        # Into a file or a pipe nothing is cut to the width of a terminal.
        wide = out.measure(grid, options=out.options.update(width=10_000)).maximum
        (out if out.is_terminal else Console(width=wide)).print(grid)
    if plot is not None:
        picture.draw(plot, sheet)
        say(f"picture: {plot}")
