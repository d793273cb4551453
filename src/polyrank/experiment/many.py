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
from polyrank.experiment.folder import Folder, claim, create
from polyrank.experiment.setup import Setup, prepare, shared
from polyrank.experiment.single import checked, go
from polyrank.recipe import Recipe
from polyrank.recipe.load import load
from polyrank.report import page, records
from polyrank.report.records import RunRecords

MANIFEST = "compare.json"


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

    `zero-pad,fedit:lora.ranks=8,fedhl:algorithm.weights=coherent`; a comma in brackets is part
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
    name, *overrides = label.split(":")
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
            checked(one.recipe)
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
    named = []
    for label, recipe in planned:
        name = f"{re.sub(r'[^A-Za-z0-9.=_-]+', '_', label)}-seed{recipe.seed}"
        create(path / name, recipe)
        named.append((label, name))
    files.write(path / MANIFEST, json.dumps({"runs": named}, indent=1).encode())
    return Comparison(path, tuple(named))


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


def compare(comparison: Comparison, watch: Watch = ignore) -> list[RunRecords]:
    """Do every run that is not complete, then write the report on all of them."""
    setup: tuple[str, Setup] | None = None
    for label, name in comparison.runs:
        folder = Folder(comparison.path / name)
        if folder.complete:
            continue
        recipe = load(folder.recipe).recipe
        if setup is None or setup[0] != shared(recipe):
            setup = (shared(recipe), prepare(recipe))
        go(recipe, label, folder, watch, setup[1])
    runs = recorded(comparison)
    page.write(comparison.path / "report.html", runs)
    return runs


def recorded(comparison: Comparison) -> list[RunRecords]:
    """The records of the runs that have any, complete or not."""
    folders = [Folder(comparison.path / name) for _, name in comparison.runs]
    return [records.load(f.records) for f in folders if f.records.exists()]
