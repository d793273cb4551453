"""Choices: whether the way in which a sum of updates is decomposed is the one that takes least.

Each of the ways of `lora/spectral.py` is timed on the same sum; `chosen` is what its cost model
takes, and the last column what that costs over the quickest.
"""

import time
from collections.abc import Sequence
from statistics import geometric_mean, median

import torch

from bench import uploads
from bench.section import Limits, Row, Section
from bench.uploads import Case
from polyrank.lora import spectral
from polyrank.lora.factor import Factor

WAYS: tuple[spectral.Way, ...] = ("core", "gram", "grown")
CLIENTS = (2, 8, 32, 128)
TINY = [Case(48, 40, 4, rank=4, ranks=(1, 2, 4))]
QUICK = [Case(768, 768, clients) for clients in CLIENTS]
SMALL = [
    Case(out, inn, clients, spectrum, rank)
    for out, inn in ((384, 384), (768, 768), (768, 3072))
    for spectrum in ("training", "flat")
    for clients in CLIENTS
    for rank in (8, 64)
]  # fmt: skip
LARGE = [Case(4096, 4096, clients) for clients in (8, 32, 128)]
LONG = 5.0  # seconds above which a way is done only once
REPEATS = 3
NOTES = [
    "`core`: QR of both stacked sides and an SVD between them. `gram`: the eigenvectors of the "
    "dense sum's Gram matrix. `grown`: block Krylov until the answer is accurate; where it finds "
    "on its way that it will not be, the exact way's time is in it. Seconds are medians.",
]


def run(quick: bool, limits: Limits) -> Section:
    """Every way on every case.

    Args:
        quick: one layer's shape only.
        limits: for the threads, and whether it is a test.
    """
    cases = TINY if limits.tiny else QUICK if quick else SMALL + LARGE
    rows: list[Row] = []
    over: list[float] = []
    for case in cases:
        given, weights = _sum(case)
        parts = [Factor(a, b, w) for (b, a), w in zip(given, weights, strict=True)]
        seconds = {way: _timed(parts, case.rank, way) for way in WAYS}
        chosen, least = spectral.way(parts, case.rank), min(seconds.values())
        over.append(seconds[chosen] / least)
        rows.append({
            "layer": case.layer, "uploads": case.spectrum, "stacked": sum(f.rank for f in parts),
            "rank": case.rank, **{f"{way} s": seconds[way] for way in WAYS}, "chosen": chosen,
            "over the quickest": over[-1],
        })  # fmt: skip
        limits.tell(rows[-1])
    ratios = {
        "choices_over_quickest_mean": geometric_mean(over), "choices_over_quickest_worst": max(over)
    }  # fmt: skip
    return Section("Choices", rows, ratios, NOTES)


def _sum(case: Case) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], list[float]]:
    tensors = uploads.make(case)
    weights = tensors["weights"].tolist()
    return [(tensors[f"b.{k}"], tensors[f"a.{k}"]) for k in range(len(weights))], weights


def _timed(parts: Sequence[Factor], rank: int, way: spectral.Way) -> float:
    """Seconds of one way: the median of some, after one to warm up, unless it takes long."""
    took: list[float] = []
    while len(took) <= REPEATS:
        begun = time.perf_counter()
        spectral.decomposed(parts, rank, way)
        took.append(time.perf_counter() - begun)
        if took[0] > LONG:
            return took[0]
    return median(took[1:])
