"""Catchup's experiment: FLoRA's accuracy at no more than an eighth of its download?

The harsh cross-silo cells of FedHL's experiment under catchup and its rivals; then, in two of
them, catchup's open questions and a longer horizon. Variants have learning rates of their own,
from the same grid.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from polyrank.reproduce import fedhl
from polyrank.reproduce.experiment import Stage
from polyrank.reproduce.grid import Row, Trial

RECIPE = fedhl.RECIPE
NAME = "catchup"
RIVALS = ("flora", "fedhl", "florist", "raflora", "zero-pad")
# Where the first version of catchup had been measured before it was changed.
SEEN = tuple(f"silo, harsh, dirichlet(0.5), {name}" for name in fedhl.SETS)
OPEN = ("silo, harsh, dirichlet(0.5), banking77", "silo, harsh, dirichlet(0.5), dbpedia14")
VARIANTS = {
    "catchup:start=random": ("algorithm.start=random",),
    "catchup:start=random:down=2": ("algorithm.start=random", "algorithm.down=2.0"),
    "catchup:tau=0.99": ("algorithm.tau=0.99",),
    "catchup:tau=0.999": ("algorithm.tau=0.999",),
    "catchup:momentum=0.9": (
        "aggregation.optimizer=momentum", "aggregation.momentum=0.9", "aggregation.lr=0.2",
    ),
    "catchup:trust=1": ("algorithm.trust=1.0",),
    "catchup:weights=regularised": ("aggregation.weights=regularised",),
}  # fmt: skip
LONG = ("catchup", "flora", "fedhl")
ROUNDS = 24  # of the long runs: what was left out of a download is sent in later rounds


def stages(folder: Path, quick: bool) -> list[Stage]:
    """Learning rates, then all runs; quick: one cell, three seeds."""

    def chosen(rows: Sequence[Row]) -> list[Trial]:
        trials = list(runs(folder, rows))
        few = [t for t in trials if t.cell == OPEN[0] and t.seed in fedhl.SEEDS[:3]]
        return few if quick else trials

    return [lambda rows: list(chosen_by(folder)), chosen]


def chosen_by(folder: Path) -> Iterator[Trial]:
    """FedHL's grid of learning rates, and the same for every variant."""
    grid = list(fedhl.chosen_by(folder))
    yield from grid
    yield from _varied([t for t in grid if t.label == NAME], "grid")


def runs(folder: Path, rows: Sequence[Row]) -> Iterator[Trial]:
    """Catchup and its rivals in every harsh cross-silo cell, the variants, the long runs."""
    ours = [t for t in fedhl.runs(folder, rows)
            if t.label in (NAME, *RIVALS) and t.cell.startswith("silo, harsh, ")]  # fmt: skip
    yield from ours
    asked, best = [t for t in ours if t.cell in OPEN], fedhl.winners(rows)
    for one in _varied([t for t in asked if t.label == NAME], "sweep"):
        yield replace(one, overrides=(*one.overrides, f"local.lr={best[one.label]}"))
    for one in (t for t in asked if t.label in LONG):
        yield replace(one, part="long", overrides=(*one.overrides, f"rounds={ROUNDS}"))


def _varied(trials: Iterable[Trial], part: str) -> Iterator[Trial]:
    """The same trials under every variant."""
    for one in trials:
        for label, over in VARIANTS.items():
            yield replace(one, part=part, label=label, overrides=(*one.overrides, *over))
