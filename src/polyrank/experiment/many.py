"""Comparing: the same clients, data and seeds under each algorithm, in one folder.

    runs/<name>/compare.json  <label>-seed<k>/…  report.html

Every run in it is an ordinary run folder; the comparison goes on where it stopped.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from polyrank import files
from polyrank.errors import RecipeError, StorageError
from polyrank.experiment.events import Watch, ignore
from polyrank.experiment.folder import MANIFEST, RECIPE, Folder, claim
from polyrank.experiment.ready import checked, fitting, prepared
from polyrank.experiment.setup import Setup, prepare, shared
from polyrank.experiment.single import go
from polyrank.recipe import Recipe
from polyrank.recipe.load import dump, load
from polyrank.recipe.places import MistakeError
from polyrank.report import page, records
from polyrank.report.records import RunRecords


class Variant(NamedTuple):
    """One column of a comparison: an algorithm, with recipe keys that differ for it alone."""

    label: str
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A folder with one run per variant and seed.

    Args:
        path: the folder.
        runs: (label, name of the run's folder), in the order in which they are done.
    """

    path: Path
    runs: tuple[tuple[str, str], ...]


def variants(text: str) -> list[Variant]:
    """What `--algorithms` says: names, each with its own recipe keys after colons if any.

    `zero-pad,fedit:lora.ranks=8,fedhl:aggregation.weights=coherent`; a comma in brackets is part
    of a value.

    Raises:
        RecipeError: nothing is named, or the same thing twice.
    """
    parts = [p.strip() for p in re.split(r",(?![^\[{]*[\]}])", text) if p.strip()]
    labels = [p.removeprefix("algorithm=") for p in parts]
    if not labels:
        raise RecipeError("--algorithms", f"{text!r} names no algorithm")
    for label in labels:
        if labels.count(label) > 1:
            raise RecipeError("--algorithms", f"{label!r} is named twice")
    return [_variant(label) for label in labels]


def _variant(label: str) -> Variant:
    name, *overrides = re.split(r":(?![^\[{]*[\]}])", label)
    return Variant(label, (f"algorithm={name}", *overrides))


def plan(
    recipe: Path, overrides: Sequence[str], chosen: Sequence[Variant], seeds: int
) -> list[tuple[str, Recipe]]:
    """(label, recipe) of every run; seed by seed, so that runs side by side share model and data.

    Raises:
        RecipeError: a recipe that cannot be.
    """
    first = load(recipe, overrides).recipe.seed
    planned = []
    for seed in range(first, first + seeds):
        for variant in chosen:
            one = load(recipe, [*overrides, *variant.overrides, f"seed={seed}"])
            try:
                checked(one.recipe)
            except RecipeError as error:  # this variant's own keys know their place
                place = one.where(error.key)
                raise MistakeError(place, error.key, error.problem) from None
            planned.append((variant.label, one.recipe))
    return planned


def create_all(
    path: Path, planned: Sequence[tuple[str, Recipe]], overwrite: bool = False
) -> Comparison:
    """Folders for all runs, each with its recipe, before any of them starts.

    Raises:
        StorageError: the folder exists and is not to be replaced, or cannot be written.
    """
    claim(path, overwrite)
    contents, named = {}, []
    for label, recipe in planned:
        name = f"{re.sub(r'[^A-Za-z0-9.=_-]+', '_', label)}-seed{recipe.seed}"
        contents[f"{name}/{RECIPE}"] = dump(recipe).encode()
        named.append((label, name))
    manifest = json.dumps({"runs": named}, indent=1).encode()
    files.write_folder(path, {**contents, MANIFEST: manifest})
    return Comparison(path, tuple(named))


def label(path: Path, recipe: Recipe) -> str:
    """What a run is called: as its comparison says if it is in one, else as its algorithm."""
    if (path.parent / MANIFEST).exists():
        names = {name: label for label, name in open_all(path.parent).runs}
        return names.get(path.name, recipe.algorithm.name)
    return recipe.algorithm.name


def open_all(path: Path) -> Comparison:
    """The comparison in a folder.

    Raises:
        StorageError: its manifest cannot be read.
    """
    try:
        listed = json.loads((path / MANIFEST).read_text())["runs"]
        return Comparison(path, tuple((str(label), str(name)) for label, name in listed))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"cannot read {path / MANIFEST}: {error}") from None


Shared = tuple[str, Setup]  # a Setup and what its recipes have in common


def prepared_first(planned: Sequence[tuple[str, Recipe]]) -> Shared:
    """Model and data of the first run; every run's ranks are checked against the model.

    Raises:
        PolyrankError: whatever is wrong with a recipe, the data or the model.
    """
    first = planned[0][1]
    setup = prepared(first)
    for _, recipe in planned:
        if shared(recipe) == shared(first):
            fitting(recipe, setup)
    return shared(first), setup


def compare(
    comparison: Comparison, watch: Watch = ignore, ready: Shared | None = None
) -> list[RunRecords]:
    """Do every run that is not complete, then write the report on all of them."""
    for label, name in comparison.runs:
        folder = Folder(comparison.path / name)
        if folder.complete:
            continue
        recipe = load(folder.recipe).recipe
        if ready is None or ready[0] != shared(recipe):
            ready = (shared(recipe), prepare(recipe))
        go(recipe, label, folder, watch, ready[1])
    runs = recorded(comparison)
    page.write(comparison.path / "report.html", runs)
    return runs


def recorded(comparison: Comparison) -> list[RunRecords]:
    """The records of the runs that have any, complete or not."""
    folders = [Folder(comparison.path / name) for _, name in comparison.runs]
    return [records.load(f.records) for f in folders if f.records.exists()]
