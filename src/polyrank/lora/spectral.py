"""Best approximations and spectra of updates, none by a dense matrix where that costs more.

A cost model chooses between an exact decomposition and one that is grown until it is accurate
(lora/krylov.py). Its constants are from single measurements of each step (LOG.md), and the
benchmark holds its choices against the other ways.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.lora import krylov
from polyrank.lora.algebra import stack, total, truncate, whole
from polyrank.lora.applied import operator
from polyrank.lora.factor import Factor

Way = Literal["core", "gram", "grown"]
USUAL = 5  # directions for each slot of the answer, in spectra that are neither steep nor flat


def recompress(f: Factor, rank: int | None = None) -> Factor:
    """`best` of one factor; the rank None keeps all min(rank, out, in), which is lossless."""
    return best([f], rank)


def best(parts: Sequence[Factor], rank: int | None = None) -> Factor:
    """Best approximation of rank at most `rank` (Eckart-Young), slots by falling singular value.

        B = Q_b R_b,  Aᵀ = Q_a R_a,  R_b R_aᵀ = U Σ Vᵀ   ⇒   A' = (Q_a V)ᵀ,  B' = Q_b U Σ

    The rows of A' are orthonormal and the columns of B' carry the singular values, so that
    truncating the result is again the best approximation, and a start handed to a client has
    rows of A as long as fresh ones. Slots below the precision of the dtype are emptied.

    In float32 a rank far below the layer's and the sum's is found without decomposing all of it:
    the error ‖Δ − best.delta‖ is then at most 1 + 1e-4 times the smallest possible.

    Args:
        parts: terms of a sum; any ranks, together also above min(out, in). They are copied only
            where the sum is decomposed whole.
        rank: slots to keep; None keeps all.
    """
    u, s, vt = decomposed(parts, rank, way(parts, rank))
    floor = s[:1] * max(parts[0].shape) * torch.finfo(s.dtype).eps
    s = torch.where(s > floor, s, 0.0)
    found = Factor((s > 0)[:, None] * vt, u * s)
    return found if rank is None else truncate(found, rank)


def leads(parts: Sequence[Factor], rank: int) -> bool:
    """Whether the leading part alone is expected to cost less than decomposing the whole sum."""
    return way(parts, rank) == "grown"


def way(parts: Sequence[Factor], rank: int | None) -> Way:
    """How a sum is decomposed: what is expected to cost least (in float64, what is exact)."""
    if parts[0].a.dtype == torch.float64:
        return "core"
    costs = _costs(parts)
    if rank is not None and costs.worth(rank):
        return "grown"
    return "gram" if costs.gram < costs.core else "core"


def decomposed(
    parts: Sequence[Factor], rank: int | None, how: Way
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, Σ, Vᵀ) of the sum, or of its leading part, in one way.

    Args:
        parts: terms of the sum.
        rank: how many directions are needed; only `grown` leaves out others.
        how: the way; `grown` gives way to an exact one where it turns out to cost more.
    """
    if how == "grown" and rank is not None:
        costs = _costs(parts)
        if found := krylov.leading(operator(parts, costs.dense), rank, costs.most):
            return found
        how = way(parts, None)
    return _by_gram(total(parts).delta) if how == "gram" else _by_core(stack(parts))


def _costs(parts: Sequence[Factor]) -> "Costs":
    return Costs.of(parts[0].shape, sum(f.rank for f in parts))


class Costs(NamedTuple):
    """Work of each way to decompose one update, in multiplications at a product's usual speed.

    Args:
        core: by QR decompositions of both sides.
        gram: by the Gram matrix of the dense update.
        start, column: to grow a space: before the first direction, and for each.
        dense: whether its products are with the dense update.
        limit: how many directions there are.
    """

    core: float
    gram: float
    start: float
    column: float
    dense: bool
    limit: int

    @classmethod
    def of(cls, shape: tuple[int, int], s: int) -> "Costs":
        """What an update's shape and stacked rank say. The constants are of LOG.md."""
        out, width = shape
        least, area = min(shape), out * width
        form = 0.0 if s == least else 2.0 * area * s  # a `whole` is dense already
        factored, dense = 4.0 * (out + width) * s, 4.0 * area
        usual = USUAL * krylov.WIDTH
        through = form + dense * usual < factored * usual
        return cls(
            core=6.0 * (out + width) * s**2 + 22.0 * min(s, least) ** 3,
            gram=form + 6.0 * area * least + 17.0 * least**3,
            start=form if through else 0.0,
            column=1.6 * (dense if through else factored) + 500.0 * (out + width),
            dense=through,
            limit=min(s, least),
        )

    def grown(self, k: int) -> float:
        """To find k directions: their products, and the decompositions of M on the way."""
        looks = k / krylov.WIDTH
        return self.start + self.column * k + (17.0 + 4.0 * looks) * k**3

    @property
    def most(self) -> int:
        """How many directions cost no more than to decompose the whole update."""
        least, step = min(self.core, self.gram), krylov.WIDTH
        few = (k for k in range(step, self.limit + 1, step) if self.grown(k) <= least)
        return max(few, default=0)

    def worth(self, rank: int) -> bool:
        """Whether the directions that a rank usually takes are among these."""
        return rank > 0 and USUAL * (rank + 8) < self.most


def _by_core(f: Factor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, Σ, Vᵀ) from the SVD of the small core R_b R_aᵀ."""
    qb, rb = torch.linalg.qr(f.scale * f.b)
    qa, ra = torch.linalg.qr(f.a.T)
    u, s, vt = torch.linalg.svd(rb @ ra.T, full_matrices=False)
    return qb @ u, s, vt @ qa.T


def _by_gram(delta: Float[Tensor, "out in"]) -> tuple[Tensor, Tensor, Tensor]:
    """(U, Σ, Vᵀ) of a matrix that is smaller than its factors, from its Gram matrix.

    The Gram matrix squares the condition number, so it is formed in float64, whose precision
    is the square of float32's.
    """
    if delta.shape[0] > delta.shape[1]:
        u, s, vt = _by_gram(delta.T)
        return vt.T, s, u.T
    wide = delta.double()
    vectors = torch.linalg.eigh(wide @ wide.T).eigenvectors.flip(1)
    rows = vectors.T @ wide
    s = rows.norm(dim=1)
    vt = rows / s.clamp_min(torch.finfo(s.dtype).tiny)[:, None]
    return vectors.to(delta), s.to(delta), vt.to(delta)


def factored(delta: Float[Tensor, "out in"]) -> Factor:
    """A dense update as a factor of full rank, slots by falling singular value (as recompress).

    factored(d).delta == d.
    """
    return recompress(whole(delta))


def singular_values(f: Factor) -> Float[Tensor, " k"]:
    """Singular values of the update, falling; k = min(rank, out, in)."""
    if f.rank > min(f.shape):
        return torch.linalg.svdvals(f.delta)
    rb = torch.linalg.qr(f.scale * f.b, mode="r").R
    ra = torch.linalg.qr(f.a.T, mode="r").R
    return torch.linalg.svdvals(rb @ ra.T)


def effective_rank(values: Tensor) -> float:
    """exp(−Σ_j π_j ln π_j), π = σ/Σσ, of singular values; 0 for no update at all.

    Roy & Vetterli, EUSIPCO 2007.
    """
    if not values.any():
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())
