"""Best approximations and spectra of updates, none by a dense matrix where that costs more.

A cost model chooses between an exact decomposition and one that is grown until it is accurate
(lora/krylov.py); bench/ measures what it chooses against what it leaves.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.lora import krylov
from polyrank.lora.algebra import truncate, whole
from polyrank.lora.factor import Factor

USUAL = 5  # directions for each slot of the answer, in spectra that are neither steep nor flat


def recompress(f: Factor, rank: int | None = None) -> Factor:
    """Best approximation of rank at most `rank` (Eckart-Young), slots by falling singular value.

        B = Q_b R_b,  Aᵀ = Q_a R_a,  R_b R_aᵀ = U Σ Vᵀ   ⇒   A' = (Q_a V)ᵀ,  B' = Q_b U Σ

    The rows of A' are orthonormal and the columns of B' carry the singular values, so that
    truncating the result is again the best approximation, and a start handed to a client has
    rows of A as long as fresh ones. Slots below the precision of the dtype are emptied.

    In float32 a rank far below the layer's and the factor's is found without decomposing all of
    f: the error ‖f.delta − best.delta‖ is then at most 1 + 1e-4 times the smallest possible.

    Args:
        f: the factor; any rank, also above min(out, in).
        rank: slots to keep; None keeps all min(rank, out, in), which is lossless.
    """
    u, s, vt = _decomposed(f, rank)
    floor = s[:1] * max(f.shape) * torch.finfo(s.dtype).eps
    s = torch.where(s > floor, s, 0.0)
    best = Factor((s > 0)[:, None] * vt, u * s)
    return best if rank is None else truncate(best, rank)


def leads(f: Factor, rank: int) -> bool:
    """Whether the leading part alone is expected to cost less than decomposing all of f."""
    return f.a.dtype != torch.float64 and Costs.of(f).worth(rank)


def _decomposed(f: Factor, rank: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """(U, Σ, Vᵀ) of f, or of its leading part, by what is expected to cost least."""
    if f.a.dtype == torch.float64:
        return _by_core(f)
    costs = Costs.of(f)
    if rank is not None and costs.worth(rank):
        found = krylov.leading(_operator(f, costs.dense), rank, costs.most)
        if found is not None:
            return found
    return _by_gram(f.delta) if costs.gram < costs.core else _by_core(f)


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
    def of(cls, f: Factor) -> "Costs":
        """What the shape of an update says. The constants are measured (bench/)."""
        (out, width), s = f.shape, f.rank
        least, area = min(f.shape), out * width
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
        return self.start + self.column * k + (17.0 + 2.0 * looks) * k**3

    @property
    def most(self) -> int:
        """How many directions cost no more than to decompose the whole update."""
        least, step = min(self.core, self.gram), krylov.WIDTH
        few = (k for k in range(step, self.limit + 1, step) if self.grown(k) <= least)
        return max(few, default=0)

    def worth(self, rank: int) -> bool:
        """Whether the directions that a rank usually takes are among these."""
        return rank > 0 and USUAL * (rank + 8) < self.most


def _operator(f: Factor, dense: bool) -> krylov.Operator:
    """Δ by its products: through the factors, or densely."""
    if dense:
        delta = f.delta
        return krylov.Operator(lambda x: delta @ x, lambda y: delta.mT @ y, f.a, f.shape)
    a, b = f.a, f.scale * f.b
    return krylov.Operator(lambda x: b @ (a @ x), lambda y: a.mT @ (b.mT @ y), a, f.shape)


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
