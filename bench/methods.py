"""What aggregates: the peers, and ours.

Each comes with about how many operations it does, so that what would take too long can be
estimated from a smaller case. A decomposition's operation counts several times: it does not run
at the speed of a product (50·m·n·min(m, n) for a full SVD fits what was measured).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from bench.peers import (
    Aggregate,
    Upload,
    flare_hlora,
    flexlora,
    flora,
    replication,
    svd_lowrank,
    zero_padding,
)
from bench.uploads import Case
from polyrank import algorithms
from polyrank.lora.factor import Factor
from polyrank.lora.spectral import best
from polyrank.messages import Client
from polyrank.messages import Upload as Message

Work = Callable[[Case, int], float]  # operations for a case and its stacked rank


class Method(NamedTuple):
    """A way to aggregate.

    Args:
        words: what tables call it.
        run: does it.
        work: about how many operations that takes.
    """

    words: str
    run: Aggregate
    work: Work


def recompressed(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """Stacked, and cut to the rank at once."""
    parts = [Factor(a, b, w) for (b, a), w in zip(uploads, weights, strict=True)]
    found = best(parts, rank)
    return found.scale * found.b, found.a


def one_pass(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """The algorithm `flexlora` as a server runs it: one upload after another."""
    out, inn = len(uploads[0][0]), uploads[0][1].shape[1]
    able = algorithms.load("flexlora")
    state = able.init({"layer": Factor(torch.zeros(rank, inn), torch.zeros(out, rank))}, 0)
    messages = (
        Message(Client(str(i), len(a)), {"layer": Factor(a, b)}, 1, weight=w)
        for i, ((b, a), w) in enumerate(zip(uploads, weights, strict=True))
    )
    state, _ = able.aggregate(state, messages)
    found = able.read(state)["layer"]
    return found.scale * found.b, found.a


def _read(case: Case, stacked: int) -> float:
    return float((case.out + case.inn) * stacked)


def _padded(case: Case, stacked: int) -> float:
    return float((case.out + case.inn) * case.rank * case.clients)


def _again(case: Case, stacked: int) -> float:
    return _read(case, stacked) * case.clients / 2


def _dense(case: Case, stacked: int) -> float:
    return 2.0 * case.out * case.inn * stacked


def _full(case: Case, stacked: int) -> float:
    return _dense(case, stacked) + 50.0 * case.out * case.inn * min(case.out, case.inn)


def _lowrank(case: Case, stacked: int) -> float:
    return _dense(case, stacked) + 12.0 * case.out * case.inn * (case.rank + 10)


def _core(case: Case, stacked: int) -> float:
    b, a = min(case.out, stacked), min(case.inn, stacked)
    products = 4.0 * stacked * (case.out * b + case.inn * a) + 2.0 * b * stacked * a
    return products + 50.0 * b * a * min(a, b)


def _factored(case: Case, stacked: int) -> float:
    return arithmetic(case, stacked) * 3


def arithmetic(case: Case, stacked: int) -> float:
    """4(m+n)·S·(R+10): the stacked factors, once in each direction, on R + 10 columns."""
    return 4.0 * (case.out + case.inn) * stacked * (case.rank + 10)


OURS, ONE_PASS, FLEXLORA, QR_CORE, SVD = "ours", "one_pass", "flexlora", "qr", "svd_lowrank"
METHODS = {
    "zero_padding": Method("zero padding (FLoRA's code)", zero_padding.aggregate, _padded),
    "replication": Method("replicate (Byun & Lee)", replication.aggregate, _padded),
    "flora": Method("stack, client by client (FLoRA's code)", flora.repeated, _again),
    "stack": Method("stack, at once", flora.once, _read),
    FLEXLORA: Method("dense sum, full SVD (FlexLoRA's code)", flexlora.aggregate, _full),
    QR_CORE: Method("QR-core (NVIDIA FLARE's example)", flare_hlora.aggregate, _core),
    SVD: Method("dense sum, torch.svd_lowrank", svd_lowrank.aggregate, _lowrank),
    OURS: Method("**ours**: best approximation", recompressed, _factored),
    ONE_PASS: Method("**ours**: flexlora, upload by upload", one_pass, _factored),
}
