"""FedHL's experiment: cross-silo and cross-device, mild and harsh ranks, three partitions.

Every algorithm, five seeds; the learning rate of each is the winner of one grid for all, on a
validation split of the training data under another seed.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from polyrank import algorithms
from polyrank.reproduce import data
from polyrank.reproduce.experiment import Stage
from polyrank.reproduce.grid import Row, Trial

RECIPE = "fedhl"
RATES = ("2.5e-4", "1e-3", "4e-3", "1.6e-2")
SEEDS = (0, 1, 2, 3, 4)
TUNING = 100  # the seed under which learning rates are chosen
TRAIN, TEST = 4000, 1000
SETS = ("banking77", "dbpedia14", "ag_news")
PARTITIONS = ("dirichlet(0.5)", "dirichlet(0.1)", "iid")
# The mean rank, rounded down, is what algorithms for equal ranks get: the same traffic or less.
MIXES = {
    "harsh": ("{2: 30%, 4: 20%, 8: 20%, 16: 10%, 32: 10%, 64: 10%}", 14),
    "mild": ("{4: 40%, 8: 40%, 16: 20%}", 8),
}
SCALES = {
    "silo": ("data.clients=10", "participation=1.0"),
    "device": ("data.clients=100", "participation=0.1"),
}


def chosen_by(folder: Path) -> Iterator[Trial]:
    """One grid of learning rates for every algorithm, on validation data."""
    for name in ("banking77", "ag_news"):
        keys = [*subset(name, folder), "data.evaluate_on=validation"]
        for label in algorithms.names():
            for rate in RATES:
                own = (*keys, *scaled("silo", "dirichlet(0.5)"), *ranked(label, "harsh"))
                over = (*own, f"algorithm={label}", f"local.lr={rate}")
                yield Trial("grid", f"{name} lr {rate}", label, TUNING, over, name)


def winners(rows: Sequence[Row]) -> dict[str, str]:
    """The learning rate of each algorithm: the best mean over the tuning data sets."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["part"] == "grid":
            rate = row["cell"].split(" lr ")[1]
            found.setdefault(row["label"], {}).setdefault(rate, []).append(row["accuracy"])
    return {
        label: max(rates, key=lambda rate: fmean(rates[rate])) for label, rates in found.items()
    }


def runs(folder: Path, rows: Sequence[Row], seeds: Sequence[int] = SEEDS) -> Iterator[Trial]:
    """Every algorithm in every setting, the telling settings first."""
    best = winners(rows)
    for partition, scale, name, seed, mix in product(PARTITIONS, SCALES, SETS, seeds, MIXES):
        keys = (*subset(name, folder), *scaled(scale, partition))
        cell, group = f"{scale}, {mix}, {partition}, {name}", f"{scale}, {partition}, {name}"
        for label in algorithms.names():
            own = (*ranked(label, mix), f"algorithm={label}", f"local.lr={best[label]}")
            yield Trial("runs", cell, label, seed, (*keys, *own), group)


def stages(folder: Path, quick: bool) -> list[Stage]:
    """The grid of learning rates, then the runs; quick: one cell and three seeds of these."""

    def first_cell(rows: Sequence[Row]) -> list[Trial]:
        few = [t for t in runs(folder, rows, SEEDS[:3])]
        return [t for t in few if t.cell == few[0].cell]

    grid = [lambda rows: list(chosen_by(folder))]
    return [*grid, first_cell if quick else lambda rows: list(runs(folder, rows))]


def subset(name: str, folder: Path) -> tuple[str, ...]:
    """The keys for a data set's texts."""
    return (f"data.path={data.subset(name, folder, TRAIN, TEST)}",)


def scaled(scale: str, partition: str) -> tuple[str, ...]:
    """The keys for how many clients there are, and how the texts are spread over them."""
    return (*SCALES[scale], f"data.partition={partition}")


def ranked(label: str, mix: str) -> tuple[str, ...]:
    """The key for the ranks: the mix, or its mean for an algorithm that needs equal ones."""
    ranks, mean = MIXES[mix]
    return (f"lora.ranks={ranks if algorithms.about(label).mixed else mean}",)
