"""Where rank matters: FedHL's cross-silo setting with harsh ranks, and a head that is not trained.

A head that is trained learns these tasks on top of factors of any rank. One that stays as it was
drawn leaves all to the factors, as in a language model, and few slots are not enough.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from polyrank import algorithms
from polyrank.reproduce import fedhl
from polyrank.reproduce.experiment import Stage
from polyrank.reproduce.grid import Row, Trial

RECIPE = fedhl.RECIPE
FROZEN = ("lora.train_head=false", "rounds=16", "local.steps=8", "evaluation.every=16")
RATES = ("1e-3", "4e-3", "1.6e-2")
SEEDS = fedhl.SEEDS
SETS = ("banking77", "dbpedia14")  # AG News has four classes: a small rank is enough
PARTITIONS = ("dirichlet(0.5)", "iid")
MIX, TOP = "harsh", 64
HIGHEST = f"rank {TOP} for all"  # as if everyone could afford it


def labels() -> list[str]:
    """All algorithms, and the one with the highest rank for all."""
    return [*algorithms.names(), HIGHEST]


def stages(folder: Path, quick: bool) -> list[Stage]:
    """Learning rates, then the runs; quick: one cell, three seeds."""

    def chosen(rows: Sequence[Row]) -> list[Trial]:
        trials = list(runs(folder, rows))
        few = [t for t in trials if t.cell == trials[0].cell and t.seed in SEEDS[:3]]
        return few if quick else trials

    return [lambda rows: list(chosen_by(folder)), chosen]


def chosen_by(folder: Path) -> Iterator[Trial]:
    """One grid of learning rates for all, on validation data."""
    for name, label, rate in product(SETS, labels(), RATES):
        keys = (*_keys(name, PARTITIONS[0], label, folder), "data.evaluate_on=validation")
        own = (*keys, f"local.lr={rate}")
        yield Trial("grid", f"{name} lr {rate}", label, fedhl.TUNING, own, name)


def runs(folder: Path, rows: Sequence[Row]) -> Iterator[Trial]:
    """Every algorithm in every cell."""
    best = fedhl.winners(rows)
    for partition, name, seed, label in product(PARTITIONS, SETS, SEEDS, labels()):
        own = (*_keys(name, partition, label, folder), f"local.lr={best[label]}")
        yield Trial("runs", cell(partition, name), label, seed, own, f"{partition}, {name}")


def cell(partition: str, name: str) -> str:
    """The name of a cell."""
    return f"frozen head, {MIX}, {partition}, {name}"


def _keys(name: str, partition: str, label: str, folder: Path) -> tuple[str, ...]:
    """What a trial has on top of the recipe, but for its learning rate."""
    setting = (*fedhl.subset(name, folder), *fedhl.scaled("silo", partition), *FROZEN)
    if label == HIGHEST:
        return (*setting, "algorithm=fedit", f"lora.ranks={TOP}")
    return (*setting, f"algorithm={label}", *fedhl.ranked(label, MIX))
