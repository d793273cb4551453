"""Exact weighted sums of updates of any ranks, in memory that does not grow with their number.

Σ_i w_i s_i B_i A_i,   as stacked factors, or dense where that is smaller
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from polyrank.errors import RankError
from polyrank.lora.algebra import append, scaled, total
from polyrank.lora.factor import Factor, Factors


@dataclass(frozen=True, slots=True)
class Sum:
    """A running weighted sum of one layer's updates, and the weight of all its terms."""

    parts: tuple[Factor, ...] = ()
    total: float = 0.0

    def __add__(self, other: "Sum") -> "Sum":
        """Both sums in one; associative up to rounding."""
        parts = self.parts
        for f in other.parts:
            parts = tuple(append(parts, f))
        return Sum(parts, self.total + other.total)


def nothing() -> Sum:
    """The empty sum."""
    return Sum()


def add(sum: Sum, f: Factor, weight: float) -> Sum:
    """One more term.  add(s, f, w).total == s.total + w; the update grows by w·f.delta."""
    return sum + Sum((scaled(f, weight),), weight)


def add_all(
    sums: Mapping[str, Sum], factors: Factors, weight: Callable[[str], float]
) -> dict[str, Sum]:
    """`add` for every layer that the client adapts, with its weight for that layer."""
    new = {name: add(sums.get(name, nothing()), f, weight(name)) for name, f in factors.items()}
    return {**sums, **new}


def parts(sum: Sum) -> list[Factor]:
    """The terms of the mean.

    Raises:
        RankError: there are none.
    """
    if sum.total <= 0:
        raise RankError("the mean of no updates is undefined; keep the state as it was")
    return [scaled(f, 1.0 / sum.total) for f in sum.parts]


def mean(sum: Sum) -> Factor:
    """The sum over the total weight: stacked, or whole where the ranks are above the layer's."""
    return total(parts(sum))
