"""The library's front door: what the command line does, as functions.

result = run(Recipe(name="mine", data={"path": "mine.csv"}, lora={"ranks": 8}))
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from polyrank.errors import FederationError
from polyrank.experiment import many
from polyrank.experiment.events import Watch, ignore
from polyrank.experiment.folder import MANIFEST, Folder, claim, create, opened
from polyrank.experiment.ready import prepared
from polyrank.experiment.single import go
from polyrank.flower import status
from polyrank.recipe import Recipe
from polyrank.recipe.load import load
from polyrank.report import records
from polyrank.report.records import RunRecords


class Result(NamedTuple):
    """A run folder and what is recorded in it."""

    folder: Path
    records: RunRecords

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the global model on the held-out examples, from 0 to 1."""
        return self.records.accuracy

    @property
    def adapter(self) -> Path:
        """The folder that `PeftModel.from_pretrained` loads."""
        return Folder(self.folder).adapter


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, or a bundled one by name, with `key=value` overrides.

    Raises:
        RecipeError: what is wrong with it, where, and the remedy.
    """
    return load(Path(source), overrides).recipe


def run(recipe: Recipe, *, overwrite: bool = False, watch: Watch = ignore) -> Result:
    """Run a recipe; its folder is `recipe.output.dir / recipe.name`.

    Args:
        recipe: what to do.
        overwrite: replace a run folder of that name instead of refusing.
        watch: called with every event (see polyrank.experiment.events).

    Raises:
        PolyrankError: whatever is wrong with recipe, data, model or folder.
    """
    path = recipe.output.dir / recipe.name
    claim(path, overwrite)
    setup = prepared(recipe)  # whatever is wrong with the recipe is found before a folder is made
    folder = create(path, recipe, overwrite)
    go(recipe, recipe.algorithm.name, folder, watch, setup)
    return Result(path, records.load(folder.records))


def resume(path: str | Path, *, watch: Watch = ignore) -> list[Result]:
    """Go on with a run or a comparison where it stopped; one result per run in it.

    Raises:
        PolyrankError: no such folder, a damaged checkpoint, or one made by another recipe.
    """
    path = Path(path)
    if (path / MANIFEST).exists():
        comparison = many.open_all(path)
        runs = many.compare(comparison, watch)
        return [Result(path / name, r) for (_, name), r in zip(comparison.runs, runs, strict=True)]
    folder = opened(path)
    recipe = load(folder.recipe).recipe
    if not folder.complete:
        if status.read(path):
            raise FederationError(
                f"the clients of {path} are nodes of a federation; go on with it by the command "
                "that began it (./run.sh, or flwr run)"
            )
        go(recipe, many.label(path.resolve(), recipe), folder, watch)
    return [Result(path, records.load(folder.records))]


def compare(
    source: str | Path,
    algorithms: str,
    *,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    watch: Watch = ignore,
) -> list[Result]:
    """The same clients, data and seeds under each algorithm.

    Args:
        source: a recipe's file, or a bundled one by name.
        algorithms: names separated by commas, each with recipe keys of its own after colons
            if any: "zero-pad,fedhl:aggregation.weights=coherent".
        seeds: how many, counted from the recipe's seed.
        overrides: `key=value` for all of them.
        overwrite: replace a comparison of that name instead of refusing.
        watch: called with every event.

    Raises:
        PolyrankError: whatever is wrong with a recipe, data, model or folder.
    """
    base = load_recipe(source, overrides)
    path = base.output.dir / base.name
    claim(path, overwrite)
    planned = many.plan(Path(source), overrides, many.variants(algorithms), seeds)
    setup = many.prepared_first(planned)
    comparison = many.create_all(path, planned, overwrite)
    runs = many.compare(comparison, watch, setup)
    return [
        Result(comparison.path / name, r)
        for (_, name), r in zip(comparison.runs, runs, strict=True)
    ]
