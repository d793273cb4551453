"""Slot-wise sums of factors of different ranks, in one pass over any number of clients.

    sum[j] = Σ_{i∈H_j} w_i x_i[j],   held[j] = Σ_{i∈H_j} w_i,   H_j = {i : r_i ≥ j}

x[j] is row j of A or column j of B with the scale folded in, so that clients of different ranks
and different α mean the same thing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.lora.factor import Factor, Factors
from polyrank.seeds import derive


@dataclass(frozen=True, slots=True)
class Slots:
    """Running sums of one layer, and the weights of a slot's holders and of everyone."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    held: Float[Tensor, " rank"]
    total: float = 0.0

    def __add__(self, other: "Slots") -> "Slots":
        """Both sums in one; associative up to rounding."""
        held, total = self.held + other.held, self.total + other.total
        return Slots(self.a + other.a, self.b + other.b, held, total)


def empty(like: Factor) -> Slots:
    """Nothing summed yet, at the rank, shape, dtype and device of `like`."""
    return Slots(like.a * 0, like.b * 0, like.a.new_zeros(like.rank))


def add(slots: Slots, f: Factor, weight: float, at: Sequence[int] | None = None) -> Slots:
    """One client's factor with its weight: the leading slots, or those that `at` names."""
    chosen = list(range(f.rank) if at is None else at)
    index = torch.tensor(chosen, dtype=torch.int64, device=f.a.device)
    a = slots.a.index_add(0, index, f.a, alpha=weight)
    b = slots.b.index_add(1, index, f.b, alpha=weight * f.scale)
    held = slots.held.index_add(0, index, slots.held.new_full((len(chosen),), weight))
    return Slots(a, b, held, slots.total + weight)


def add_all(
    sums: Mapping[str, Slots],
    like: Factors,
    factors: Factors,
    weight: Callable[[str], float],
    at: Callable[[str], Sequence[int] | None] = lambda layer: None,
) -> dict[str, Slots]:
    """`add` for every layer that the client adapts, with its weight for that layer.

    Args:
        sums: so far; a layer without one begins with nothing, at the rank of `like`.
        like: the server's factors.
        factors: the client's.
        weight: by layer.
        at: by layer, the slots that these are; None is the leading ones.
    """
    new = {n: add(sums.get(n) or empty(like[n]), f, weight(n), at(n)) for n, f in factors.items()}
    return {**sums, **new}


def diluted(slots: Slots) -> Factor:
    """Each slot's sum over everyone's weight, as if non-holders had sent zeros."""
    return Factor(slots.a / slots.total, slots.b / slots.total)


def by_holders(slots: Slots, before: Factor) -> Factor:
    """Each slot's mean over its holders; a slot without holders stays as it was before."""
    some = slots.held > 0
    weight = torch.where(some, slots.held, 1.0)
    a = torch.where(some[:, None], slots.a / weight[:, None], before.a)
    b = torch.where(some, slots.b / weight, before.b)
    return Factor(a, b)


def choose(rank: int, count: int, seed: int, *path: str | int) -> tuple[int, ...]:
    """`count` of `rank` slots at random, ascending (all where there are no more than `count`).

    Every set of that size is as likely as any other; the same seed and path name the same slots.
    """
    order = torch.randperm(rank, generator=derive(seed, *path))
    return tuple(sorted(order[:count].tolist()))
