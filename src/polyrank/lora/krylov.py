"""The leading part of a matrix that is known by its products alone, as accurately as is asked.

    Q_1 = orth(ΔΩ),   P_j = orth(ΔᵀQ_j),   Q_{j+1} = orth(ΔP_j),   j = 1, 2, …
    ΔᵀQ = P M   ⇒   QQᵀΔ = Q MᵀPᵀ,   whose best approximation of rank R is the answer

Small blocks find more with fewer products than a block as wide as the rank: the cost is that of
the products, and it grows until the answer is accurate and no further. All directions are kept
orthogonal to each other in full, so that QQᵀΔ is a projection to rounding, whatever the spectrum.

Golub, Luk & Overton, ACM TOMS 1981, https://doi.org/10.1145/355945.355946 (block Lanczos);
Musco & Musco, NeurIPS 2015, https://arxiv.org/abs/1504.05477 (what such a space finds).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.seeds import derive

WIDTH = 32  # of a block: narrower ones find more per product, wider ones multiply faster
PROBES = 8  # random columns that estimate how much is outside of the space
ACCURACY = 5e-5  # of the answer's error, relative to the best one's; half of what is promised

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
    """The directions so far, and M with ΔᵀQ = P M."""

    q: Float[Tensor, "out k"]
    p: Float[Tensor, "in k"]
    m: Float[Tensor, "k k"]


class Sight(NamedTuple):
    """What a space has of the matrix: the energy of rank R in it, and the estimated rest."""

    found: float
    rest: float


def leading(
    operator: Operator, rank: int, most: int
) -> tuple[Float[Tensor, "out rank"], Float[Tensor, " rank"], Float[Tensor, "rank in"]] | None:
    """(U, Σ, Vᵀ) of nearly the best approximation; None where `most` directions do not suffice.

    ‖Δ − UΣVᵀ‖ ≤ (1 + 1e-4)·‖Δ − Δ_R‖ (Frobenius), as estimated from how fast the energy that
    is found still grows; or to the dtype's precision, where the rest is below it.

    Args:
        operator: the matrix.
        rank: R, at least 1.
        most: how many directions are worth their cost.
    """
    block = WIDTH if rank >= WIDTH else max(8, rank)
    generator = derive(0, "krylov")
    test = torch.randn(operator.shape[1], block + PROBES, generator=generator)
    drawn = operator.across(test.to(operator.like))
    space, probes = _begun(operator, drawn[:, :block]), drawn[:, block:]
    seen: list[Sight] = []
    while space.q.shape[1] + block <= most:
        space = _grown(operator, space, block)
        if space.q.shape[1] > rank:
            seen.append(_sight(space, probes, rank))
            if _settled(seen):
                return _best(space, rank)
    return None


def _begun(operator: Operator, first: Tensor) -> Space:
    q = torch.linalg.qr(first).Q
    p, m = torch.linalg.qr(operator.back(q))
    return Space(q, p, m)


def _grown(operator: Operator, space: Space, block: int) -> Space:
    """One more block on either side."""
    q, _ = _orthogonal(operator.across(space.p[:, -block:]), space.q)
    p, column = _orthogonal(operator.back(q), space.p)
    below = space.m.new_zeros(block, space.m.shape[1])
    return Space(
        torch.cat([space.q, q], dim=1),
        torch.cat([space.p, p], dim=1),
        torch.cat([torch.cat([space.m, below]), column], dim=1),
    )


def _orthogonal(x: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """New directions y, orthonormal and orthogonal to the basis, and c: x = [basis y] c.

    Once more after the QR decomposition, since what is left of x may be nothing but rounding.
    """
    inside = basis.mT @ x
    x = x - basis @ inside
    again = basis.mT @ x
    y, r = torch.linalg.qr(x - basis @ again)
    y, s = torch.linalg.qr(y - basis @ (basis.mT @ y))
    return y, torch.cat([inside + again, s @ r])


def _sight(space: Space, probes: Tensor, rank: int) -> Sight:
    m = space.m.double()
    energies = torch.linalg.eigvalsh(m @ m.mT).flip(0)
    outside = probes - space.q @ (space.q.mT @ probes)
    rest = float(energies[rank:].sum()) + float(outside.square().sum()) / PROBES
    return Sight(float(energies[:rank].sum()), rest)


def _settled(seen: list[Sight]) -> bool:
    """Whether what is still to be found, at the rate of the last two looks, is small enough."""
    if len(seen) < 3:
        return False
    before, last = (seen[i].found - seen[i - 1].found for i in (-2, -1))
    rounding = 4 * torch.finfo(torch.float32).eps * seen[-1].found
    if last <= rounding:
        return True
    rate = min(last / before, 0.9) if before > 0 else 0.9
    return last * rate / (1 - rate) <= 2 * ACCURACY * seen[-1].rest


def _best(space: Space, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    m = space.m.double()
    values, vectors = torch.linalg.eigh(m.mT @ m)  # MᵀM = ΔΔᵀ between the columns of Q
    left = vectors.flip(1)[:, :rank]
    s = values.flip(0)[:rank].clamp_min(0).sqrt()
    right = (m @ left) / s.clamp_min(torch.finfo(s.dtype).tiny)
    return space.q @ left.to(space.q), s.to(space.q), (space.p @ right.to(space.p)).mT
