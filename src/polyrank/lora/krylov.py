"""The leading part of a matrix that is known by its products alone, as accurately as is asked.

    P_1 = orth(start),   Q_j = orth(ΔP_j),   P_{j+1} = orth(ΔᵀQ_j),   j = 1, 2, …
    ΔP = Q N  after ΔP_j,   QᵀΔ = N Pᵀ  after ΔᵀQ_j

so that QNPᵀ is Δ projected on one side, and its best approximation of rank R is the answer. Small
blocks find more with fewer products than a block as wide as the rank: the cost is that of the
products, and it grows until the answer is accurate and no further. All directions are kept
orthogonal to each other in full, so that the projection is one to rounding, whatever the spectrum.

Golub, Luk & Overton, ACM TOMS 1981, https://doi.org/10.1145/355945.355946 (block Lanczos);
Musco & Musco, NeurIPS 2015, https://arxiv.org/abs/1504.05477 (what such a space finds).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.seeds import derive

WIDTH = 32  # of a block: narrower ones find more per product, wider ones multiply faster
SPARE = 4  # columns of a block beyond the rank, or of that many equal values one may stay hidden
PROBES = 8  # random columns that estimate how much is outside of the space
ACCURACY = 5e-5  # of a bound on the error, relative to the best one
ESTIMATED = 2e-5  # of the estimated error: it may be off by a few times
EPS = torch.finfo(torch.float32).eps

Product = Callable[[Tensor], Tensor]


class Operator(NamedTuple):
    """A matrix by its products.

    Args:
        across: x of shape (in, k) to Δx.
        back: y of shape (out, k) to Δᵀy.
        like: any tensor of its dtype and device.
        shape: (out, in).
    """

    across: Product
    back: Product
    like: Tensor
    shape: tuple[int, int]


class Space(NamedTuple):
    """The directions so far, and the matrix between them: QNPᵀ is Δ, projected."""

    q: Float[Tensor, "out left"]
    p: Float[Tensor, "in right"]
    n: Float[Tensor, "left right"]


class Triplets(NamedTuple):
    """Singular triplets of N, by falling value, in float64."""

    left: Float[Tensor, "left k"]
    s: Float[Tensor, " k"]
    right: Float[Tensor, "right k"]


def leading(
    operator: Operator, rank: int, most: int
) -> tuple[Float[Tensor, "out rank"], Float[Tensor, " rank"], Float[Tensor, "rank in"]] | None:
    """(U, Σ, Vᵀ) of nearly the best approximation; None where `most` directions do not suffice.

    ‖Δ − UΣVᵀ‖ ≤ (1 + 1e-4)·‖Δ − Δ_R‖ (Frobenius), as bounded by what is outside of the space, or
    as estimated from how fast the energy that is found still grows (where all of a spectrum lies
    within a few percent, 2e-4 was seen); or to the dtype's precision, where the rest is below it.

    Args:
        operator: the matrix.
        rank: R, at least 1.
        most: how many directions on either side are worth their cost.
    """
    block = min(WIDTH, max(8, rank + SPARE))
    draw = torch.randn(operator.shape[1], block + PROBES, generator=derive(0, "krylov"))
    start = torch.linalg.qr(draw[:, :block].to(operator.like)).Q
    drawn = operator.across(torch.cat([start, draw[:, block:].to(start)], dim=1))
    q, r = torch.linalg.qr(drawn[:, :block])
    space, probes = Space(q, start, r), _without(q, drawn[:, block:])
    known: Triplets | None = None
    found: list[float] = []
    right = False
    while space.q.shape[1] + block <= most:
        old, right = known, not right
        space = (_grown_right if right else _grown_left)(operator, space, block)
        if not right:
            probes = _without(space.q[:, -block:], probes)
        # What few directions say of the values after the R-th may be far off.
        known = _triplets(space.n) if min(space.n.shape) >= rank + 2 * block else None
        if old is None or known is None:
            continue
        corner = space.n[-block:, -block:].double()
        outside = corner.mT @ old.left[-block:] if right else corner @ old.right[-block:]
        bound = _bound(known.s, outside[:, :rank].norm(dim=0))
        found.append(float(known.s[:rank].square().sum()))
        rest = float(space.n.square().sum() + probes.square().sum() / PROBES) - found[-1]
        if bound <= max(2 * ACCURACY * rest, (4 * EPS) ** 2 * found[-1]):
            return _answer(space, known, rank)
        if _missing(found) <= 2 * ESTIMATED * rest:
            return _answer(space, known, rank)
    return None


def _answer(space: Space, known: Triplets, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    left, right = (x[:, :rank].to(space.q) for x in (known.left, known.right))
    return space.q @ left, known.s[:rank].to(left), (space.p @ right).mT


def _grown_left(operator: Operator, space: Space, block: int) -> Space:
    """One more block of Q, from the last one of P."""
    q, column = _orthogonal(operator.across(space.p[:, -block:]), space.q)
    above = torch.cat([space.n[:, :-block], space.n.new_zeros(block, space.n.shape[1] - block)])
    return Space(torch.cat([space.q, q], dim=1), space.p, torch.cat([above, column], dim=1))


def _grown_right(operator: Operator, space: Space, block: int) -> Space:
    """One more block of P, from the last one of Q."""
    p, row = _orthogonal(operator.back(space.q[:, -block:]), space.p)
    left = torch.cat([space.n[:-block], space.n.new_zeros(len(space.n) - block, block)], dim=1)
    return Space(space.q, torch.cat([space.p, p], dim=1), torch.cat([left, row.mT]))


def _orthogonal(x: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """New directions y, orthonormal and orthogonal to the basis, and c: x = [basis y] c."""
    inside = basis.mT @ x
    left = x - basis @ inside
    again = basis.mT @ left
    y, r = torch.linalg.qr(left - basis @ again)
    if r.diagonal().abs().min() <= 1e-4 * x.norm():  # it may be nothing but rounding: once more
        y, s = torch.linalg.qr(y - basis @ (basis.mT @ y))
        r = s @ r
    return y, torch.cat([inside + again, r])


def _triplets(n: Tensor) -> Triplets:
    if n.shape[0] < n.shape[1]:
        return Triplets(*reversed(_triplets(n.mT)))
    wide = n.double()
    values, right = torch.linalg.eigh(wide.mT @ wide)
    s, right = values.flip(0).clamp_min(0).sqrt(), right.flip(1)
    return Triplets((wide @ right) / s.clamp_min(torch.finfo(s.dtype).tiny), s, right)


def _bound(s: Float[Tensor, " k"], outside: Float[Tensor, " rank"]) -> float:
    """Of the energy that is missing, from what a step found outside of the space before it.

    A step contracts what was missing of direction j, at most r_j² / (1 − ρ_j), by
    ρ_j = s²_{R+1} / s_j²; where values are too close to be told apart it is ρ_j r_j s_j at most.
    """
    rank, tiny = len(outside), torch.finfo(s.dtype).tiny
    ratio = (s[rank] / s[:rank].clamp_min(tiny)).square().clamp_max(1.0)
    apart = outside.square() / (1 - ratio).clamp_min(tiny)
    return float((ratio * torch.minimum(apart, outside * s[:rank])).sum())


def _missing(found: list[float]) -> float:
    """What is still to be found, at the rate of the last two blocks; 0 below rounding."""
    if len(found) < 5:
        return math.inf
    before, last = found[-3] - found[-5], found[-1] - found[-3]
    if last <= 4 * EPS * found[-1]:
        return 0.0
    earlier = found[-5] - found[-7] if len(found) > 6 else 0.0
    rates = [x / y for x, y in ((last, before), (before, earlier)) if y > 0]
    rate = min(max(rates, default=1.0), 0.95)  # the slower one: a step may be a leap, or a halt
    rate = max(rate, 0.1)
    return last * rate / (1 - rate)


def _without(basis: Tensor, x: Tensor) -> Tensor:
    return x - basis @ (basis.mT @ x)
