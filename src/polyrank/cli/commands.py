"""The commands. What they call is imported inside them: torch and transformers take seconds."""

import json
import os
import warnings
from pathlib import Path
from typing import Annotated, Optional

import typer

from polyrank.cli import base
from polyrank.cli.base import Overrides, Overwrite, Source, app, fail, located, out, read, say
from polyrank.errors import PolyrankError
from polyrank.version import __version__


@app.command()
def run(recipe: Source, overrides: Overrides = None, overwrite: Overwrite = False) -> None:
    """Run a recipe: train, and write records, adapter and report to its run folder."""
    from polyrank import api
    from polyrank.cli.show import Screen

    loaded = read(recipe, overrides)
    with located(loaded, loaded.recipe.output.dir / loaded.recipe.name), Screen(out) as screen:
        result = api.run(loaded.recipe, overwrite=overwrite, watch=screen.watch)
    say(f"report:  {result.folder / 'report.html'}")
    say(f"adapter: {result.adapter}")


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

    given, loaded = overrides or [], read(recipe, overrides)
    path = loaded.recipe.output.dir / loaded.recipe.name
    with located(loaded, path), Screen(out) as screen:
        results = api.compare(
            recipe, algorithms, seeds=seeds, overrides=given, overwrite=overwrite,
            watch=screen.watch,
        )  # fmt: skip
    out.print(summary_table([r.records for r in results]))
    say(f"report: {path / 'report.html'}")


@app.command()
def resume(path: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]) -> None:
    """Go on with a run or a comparison where it stopped."""
    from polyrank import api
    from polyrank.cli.show import Screen
    from polyrank.federation import again
    from polyrank.report.words import judged

    if script := again.script(path):
        with located(None, path):
            again.go_on(path, script)
    with located(None, path), Screen(out) as screen:
        results = api.resume(path, watch=screen.watch)
    for result in results:
        test = result.records.test
        say(f"{result.folder}: {judged(test) if test else 'no result yet'}")
    say(f"report: {path / 'report.html'}")


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    to: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("report.html"),
) -> None:
    """Write one report on any runs, also unfinished ones and whole comparisons."""
    from polyrank.experiment import many
    from polyrank.experiment.folder import MANIFEST, opened
    from polyrank.report import page, records

    with located(None):
        runs = []
        for path in paths:
            whole = (path / MANIFEST).exists()
            runs += (
                many.recorded(many.open_all(path))
                if whole
                else [records.load(opened(path).records)]
            )
        page.write(to, runs)
    say(f"report: {to}")


@app.command()
def pretrain(
    steps: Annotated[Optional[int], typer.Option(min=1, help="Optimizer steps.")] = None,  # noqa: UP045
    overwrite: Overwrite = False,
) -> None:
    """Train the embedded language model, docstrings-llama, from scratch, and keep it."""
    from polyrank.cli.show import Bar
    from polyrank.experiment import pretraining

    count = steps or pretraining.STEPS
    with located(None), Bar(out, "docstrings-llama") as bar:
        folder, loss = pretraining.make(count, overwrite, lambda step, _: bar.show(step, count))
    say(f"{folder}: loss {loss:.4f} per token on held-out docstrings")


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
        loaded = read(source, overrides)
        with located(loaded):
            measured = costs.of_recipe(loaded.recipe)
    for line in listing(measured):
        out.print(line)


@app.command()
def plan(recipe: Source, overrides: Overrides = None) -> None:
    """Say what a recipe will ask of a client at each rank: memory, time, bytes."""
    from polyrank.cli.planning import pictured
    from polyrank.experiment.planning import needs

    loaded = read(recipe, overrides)
    with located(loaded):
        out.print(pictured(loaded.recipe, needs(loaded.recipe)))


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
    loaded = read(source, overrides)
    with located(loaded):
        from polyrank.experiment.ready import checked

        checked(loaded.recipe)
        print(load.dump(loaded.recipe), end="")


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
    warnings.showwarning = base.warned
    try:
        app()
    except PolyrankError as error:
        fail(str(error))
