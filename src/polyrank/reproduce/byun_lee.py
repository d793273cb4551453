"""Byun & Lee's experiment: ranks 5 → 20 for the clients with the best data, padded in three ways.

100 clients, 10 % a round, one local epoch; 10 % of the clients hold balanced data. In round one
everybody trains at rank 5 and measures its validation loss; the best 10 % go on with rank 20.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from polyrank import algorithms
from polyrank.reproduce import data
from polyrank.reproduce.experiment import Stage
from polyrank.reproduce.grid import Row, Trial

RECIPE = "byun-lee"
SEEDS = (1, 2, 3, 4, 5)  # 0 is the one under which the setting was looked for (LOG.md)
SETS = ("ag_news", "dbpedia14")
TRAIN = {"ag_news": 20000, "dbpedia14": 14000, "docstrings": 8000}  # texts of all clients together
TEST = 1000
QUICK_ROUNDS = 6
# The paper's own comparison; equal ranks have no warm-up round, in which everybody takes part.
PADDED = {
    "zero-pad": ("algorithm=zero-pad",),
    "zero-pad, norm weights": ("algorithm=zero-pad", "aggregation.weights=norm"),
    "replicate": ("algorithm=replicate",),
}
# Without dilution: every slot is held by all. What falls here too is not dilution's doing.
CONTROL = {
    "zero-pad, all promoted": (
        "algorithm=zero-pad",
        "lora.ranks={policy: quality, low: 5, high: 20, share: 100%, warmup: 1}",
    )
}
EQUAL = {f"rank {r}": ("algorithm=fedit", f"lora.ranks={r}") for r in (5, 7, 20)}


def stages(folder: Path, quick: bool) -> list[Stage]:
    """The paper's comparison, then every other algorithm; quick: the padding, a few rounds."""
    if quick:
        return [lambda rows: list(_runs(folder, _quick_sets(folder), PADDED, QUICK_ROUNDS))]
    others = {n: (f"algorithm={n}",) for n in algorithms.names()
              if n not in PADDED and algorithms.about(n).mixed}  # fmt: skip
    return [
        lambda rows: list(_runs(folder, SETS, {**PADDED, **CONTROL, **EQUAL})),
        lambda rows: list(_runs(folder, SETS, others)),
    ]


def labels(rows: Sequence[Row]) -> list[str]:
    """The variants that there are rows of, the paper's first."""
    found = {row["label"] for row in rows}
    own = [label for label in (*PADDED, *CONTROL, *EQUAL) if label in found]
    return [*own, *sorted(found - set(own))]


def _quick_sets(folder: Path) -> tuple[str]:
    return ("ag_news",) if data.available(["ag_news"], folder) else ("docstrings",)


def _runs(
    folder: Path, names: Sequence[str], variants: Mapping[str, tuple[str, ...]], rounds: int = 0
) -> Iterator[Trial]:
    for name in names:
        keys = [f"data.path={data.subset(name, folder, TRAIN[name], TEST)}"]
        keys += [f"rounds={rounds}"] if rounds else []
        for seed in SEEDS:
            for label, own in variants.items():
                part = "quick" if rounds else "runs"
                yield Trial(part, name, label, seed, (*keys, *own), name)
