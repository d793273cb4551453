"""The commands. What they call is imported inside them: torch and transformers take seconds."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, Optional

import typer
from rich.console import Console

from polyrank.errors import PolyrankError, RecipeError
from polyrank.version import __version__

if TYPE_CHECKING:
    from polyrank.recipe.load import Loaded

app = typer.Typer(
    help="Federated LoRA fine-tuning where every client has its own rank.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, markup=False)

Source = Annotated[str, typer.Argument(help="A recipe's YAML file, or a bundled one: demo.")]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change: local.lr=3e-3."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run of that name.")]


@app.command()
def run(recipe: Source, overrides: Overrides = None, overwrite: Overwrite = False) -> None:
    """Run a recipe: train, and write records, adapter and report to its run folder."""
    from polyrank import api
    from polyrank.cli.show import Screen

    loaded = _load(recipe, overrides)
    with _located(loaded, loaded.recipe.output.dir / loaded.recipe.name), Screen(out) as screen:
        result = api.run(loaded.recipe, overwrite=overwrite, watch=screen.watch)
    _say(f"report:  {result.folder / 'report.html'}")
    _say(f"adapter: {result.adapter}")


@app.command()
def compare(
    recipe: Source,
    overrides: Overrides = None,
    algorithms: Annotated[
        str,
        typer.Option(
            help="Names, separated by commas; recipe keys for one of them follow it after colons: "
            "zero-pad,fedit:lora.ranks=8,fedhl:aggregation.weights=coherent"
        ),
    ] = "zero-pad,replicate,fedhl",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, counted from the recipe's.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Run a recipe under several algorithms with the same clients, data and seeds."""
    from polyrank import api
    from polyrank.cli.show import Screen, summary_table

    given, loaded = overrides or [], _load(recipe, overrides)
    path = loaded.recipe.output.dir / loaded.recipe.name
    with _located(loaded, path), Screen(out) as screen:
        results = api.compare(
            recipe, algorithms, seeds=seeds, overrides=given, overwrite=overwrite,
            watch=screen.watch,
        )  # fmt: skip
    out.print(summary_table([r.records for r in results]))
    _say(f"report: {path / 'report.html'}")


@app.command()
def resume(path: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]) -> None:
    """Go on with a run or a comparison where it stopped."""
    from polyrank import api
    from polyrank.cli.show import Screen

    with _located(None, path), Screen(out) as screen:
        results = api.resume(path, watch=screen.watch)
    for result in results:
        _say(f"{result.folder}: {_percent(result.accuracy)}")
    _say(f"report: {path / 'report.html'}")


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    to: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("report.html"),
) -> None:
    """Write one report on any runs, also unfinished ones and whole comparisons."""
    from polyrank.experiment import many
    from polyrank.experiment.folder import MANIFEST, opened
    from polyrank.report import page, records

    with _located(None):
        runs = []
        for path in paths:
            whole = (path / MANIFEST).exists()
            runs += (
                many.recorded(many.open_all(path))
                if whole
                else [records.load(opened(path).records)]
            )
        page.write(to, runs)
    _say(f"report: {to}")


@app.command()
def algorithms(
    source: Annotated[Optional[str], typer.Argument(metavar="[RECIPE]")] = None,  # noqa: UP045
    overrides: Overrides = None,
) -> None:
    """List the algorithms; with a recipe, also the MB that its clients would send and get."""
    from polyrank.cli.listing import listing
    from polyrank.experiment import costs

    measured = None
    if source is not None:
        loaded = _load(source, overrides)
        with _located(loaded):
            measured = costs.of_recipe(loaded.recipe)
    for line in listing(measured):
        out.print(line)


@app.command()
def reproduce(
    name: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time
        typer.Argument(metavar="[NAME]", help="byun-lee, fedhl, catchup or toy."),
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

    with _located(None):
        if share and name:
            k, n = map(int, share.split("/"))
            run.work(name, to, data, (k, n), quick)
            return
        if name is not None:
            with Bar(out, name) as bar:
                run.reproduce(name, to, data, workers, quick, bar.show)
        _say(f"results: {run.page(to, docs)}")


@app.command(name="recipe")
def recipe_(
    source: Annotated[Optional[str], typer.Argument(metavar="[RECIPE]")] = None,  # noqa: UP045
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option("--schema", help="The JSON schema, for editors.")] = False,
) -> None:
    """Check a recipe and print it with every default filled in, or print the schema."""
    from polyrank.recipe import load

    if schema:
        print(json.dumps(load.schema(), indent=2))
        return
    if source is None:
        raise typer.BadParameter("give a recipe, or --schema")
    loaded = _load(source, overrides)
    with _located(loaded):
        from polyrank.experiment.ready import checked

        checked(loaded.recipe)
        print(load.dump(loaded.recipe), end="")


def _load(source: str, overrides: list[str] | None) -> "Loaded":
    from polyrank.recipe import load

    return load.load(Path(source), overrides or [])


@contextmanager
def _located(loaded: "Loaded | None", place: Path | None = None) -> Iterator[None]:
    """Join a recipe's mistake, wherever it was found, with the line that says it."""
    from polyrank.recipe import load

    try:
        yield
    except RecipeError as error:
        _fail(load.located(error, loaded) if loaded else str(error))
    except KeyboardInterrupt:
        hint = f"; every finished round is safe: polyrank resume {place}"
        _fail(f"stopped{hint if place and place.exists() else ''}", code=130)


def _say(line: str) -> None:
    out.print(line, soft_wrap=True)


def _percent(accuracy: float | None) -> str:
    return "no accuracy yet" if accuracy is None else f"accuracy {accuracy:.2%}"


def _version(wanted: bool | None) -> None:
    if wanted:
        print(f"polyrank {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        Optional[bool],  # noqa: UP045 - typer reads it at run time
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = None,
) -> None: ...


def main() -> None:
    """The `polyrank` command; a user's mistake is one line on stderr and exit code 2."""
    # Threads that wait should sleep: spinning costs two threads all they gain, and more, as soon
    # as anything else runs (LOG.md). Read when torch is first imported, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except PolyrankError as error:
        _fail(str(error))


def _fail(line: str, code: int = 2) -> NoReturn:
    print(f"polyrank: {line}", file=sys.stderr)
    raise SystemExit(code)
