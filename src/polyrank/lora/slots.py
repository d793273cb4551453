"""Slot-wise sums of factors of different ranks, in one pass over any number of clients.

    sum[j] = Σ_{i∈H_j} w_i x_i[j],   held[j] = Σ_{i∈H_j} w_i,   H_j = {i : r_i ≥ j}

x[j] is row j of A or column j of B with the scale folded in, so that clients of different ranks
and different α mean the same thing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.lora.algebra import pad, put, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.seeds import derive


@dataclass(frozen=True, slots=True)
class Slots:
    """Running sums of one layer, and the weights of a slot's holders and of everyone."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    held: Float[Tensor, " rank"]
    total: float = 0.0


def empty(like: Factor) -> Slots:
    """Nothing summed yet, at the rank, shape, dtype and device of `like`."""
    return Slots(like.a * 0, like.b * 0, like.a.new_zeros(like.rank))


def add(slots: Slots, f: Factor, weight: float, at: Sequence[int] | None = None) -> Slots:
    """One client's factor with its weight: the leading slots, or those that `at` names."""
    chosen = list(range(f.rank) if at is None else at)
    g = put(pad(truncate(f, 0), slots.held.shape[0]), chosen, f)
    held = slots.held.clone()
    held[chosen] += weight
    return Slots(slots.a + weight * g.a, slots.b + weight * g.b, held, slots.total + weight)


def add_all(sums: dict[str, Slots], factors: Factors, weight: Callable[[str], float]) -> None:
    """`add` for every layer that the client adapts, with its weight for that layer."""
    for name, f in factors.items():
        sums[name] = add(sums[name], f, weight(name))


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
