"""Exact weighted sums of updates of any ranks, in memory that does not grow with their number.

Σ_i w_i s_i B_i A_i,   kept as stacked factors of rank at most 2·min(out, in)
"""

from collections.abc import Callable
from dataclasses import dataclass

from polyrank.errors import RankError
from polyrank.lora.algebra import append, stack
from polyrank.lora.factor import Factor, Factors


@dataclass(frozen=True, slots=True)
class Sum:
    """A running weighted sum of one layer's updates, and the weight of all its terms."""

    parts: tuple[Factor, ...] = ()
    total: float = 0.0


def nothing() -> Sum:
    """The empty sum."""
    return Sum()


def add(sum: Sum, f: Factor, weight: float) -> Sum:
    """One more term.  add(s, f, w).total == s.total + w; the update grows by w·f.delta."""
    return Sum(tuple(append(sum.parts, stack([f], [weight]))), sum.total + weight)


def add_all(sums: dict[str, Sum], factors: Factors, weight: Callable[[str], float]) -> None:
    """`add` for every layer that the client adapts, with its weight for that layer."""
    for name, f in factors.items():
        sums[name] = add(sums[name], f, weight(name))


def mean(sum: Sum) -> Factor:
    """The sum over the total weight, stacked: rank is that of all parts."""
    if sum.total <= 0:
        raise RankError("the mean of no updates is undefined; keep the state as it was")
    return stack(sum.parts, [1.0 / sum.total] * len(sum.parts))
