"""The leading part of a matrix that is known by its products alone, as accurately as is asked.

    Q_1 = orth(ΔΩ),   P_j = orth(ΔᵀQ_j),   Q_{j+1} = orth(ΔP_j),   j = 1, 2, …
    QᵀΔ = N Pᵀ  after ΔᵀQ_j,   ΔP = Q N  after ΔP_j

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
PROBES = 8  # random columns that estimate how much is outside of the space
ACCURACY = 2e-5  # of the estimated error, relative to the best one: it may be off by a few times

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


def leading(
    operator: Operator, rank: int, most: int
) -> tuple[Float[Tensor, "out rank"], Float[Tensor, " rank"], Float[Tensor, "rank in"]] | None:
    """(U, Σ, Vᵀ) of nearly the best approximation; None where `most` directions do not suffice.

    ‖Δ − UΣVᵀ‖ ≤ (1 + 1e-4)·‖Δ − Δ_R‖ (Frobenius), as estimated from how fast the energy that
    is found still grows (where all of a spectrum lies within a few percent, 2e-4 was seen); or to
    the dtype's precision, where the rest is below it.

    Args:
        operator: the matrix.
        rank: R, at least 1.
        most: how many directions on either side are worth their cost.
    """
    block = WIDTH if rank >= WIDTH else max(8, rank)
    test = torch.randn(operator.shape[1], block + PROBES, generator=derive(0, "krylov"))
    drawn = operator.across(test.to(operator.like))
    probes = drawn[:, block:]
    space = _begun(operator, drawn[:, :block])
    found: list[float] = []
    upper = 4 * float(probes.square().sum()) / PROBES  # of ‖Δ‖², roughly
    while space.q.shape[1] + block <= most:
        for grow in (_grown_left, _grown_right):
            if space.n.shape[1] >= rank:
                found.append(_energy(space, rank))
                missing = _missing(found) / (2 * ACCURACY)
                if missing <= upper and missing <= _rest(space, probes, found[-1]):
                    return _best(space, rank)
            space = grow(operator, space, block)
    return None


def _begun(operator: Operator, first: Tensor) -> Space:
    q = torch.linalg.qr(first).Q
    p, r = torch.linalg.qr(operator.back(q))
    return Space(q, p, r.mT)


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


def _energy(space: Space, rank: int) -> float:
    """Of the best approximation of rank R that the space holds."""
    n = space.n.double()
    return float(torch.linalg.eigvalsh(n.mT @ n)[-rank:].sum())


def _missing(found: list[float]) -> float:
    """What is still to be found, at the rate of the last two blocks; 0 below rounding."""
    if len(found) < 5:
        return math.inf
    before, last = found[-3] - found[-5], found[-1] - found[-3]
    if last <= 4 * torch.finfo(torch.float32).eps * found[-1]:
        return 0.0
    earlier = found[-5] - found[-7] if len(found) > 6 else 0.0
    rates = [x / y for x, y in ((last, before), (before, earlier)) if y > 0]
    rate = min(max(rates, default=1.0), 0.95)  # the slower one: a step may be a leap, or a halt
    rate = max(rate, 0.1)
    return last * rate / (1 - rate)


def _rest(space: Space, probes: Tensor, found: float) -> float:
    """‖Δ‖² less what was found; of what is outside of the space, random columns tell."""
    outside = probes - space.q @ (space.q.mT @ probes)
    inside = float(space.n.double().square().sum())
    return max(0.0, inside + float(outside.square().sum()) / PROBES - found)


def _best(space: Space, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    n = space.n.double()
    values, vectors = torch.linalg.eigh(n.mT @ n)
    right = vectors.flip(1)[:, :rank]
    s = values.flip(0)[:rank].clamp_min(0).sqrt()
    left = (n @ right) / s.clamp_min(torch.finfo(s.dtype).tiny)
    return space.q @ left.to(space.q), s.to(space.q), (space.p @ right.to(space.p)).mT
