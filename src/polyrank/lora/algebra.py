"""Pure operations on factors; each states the law it keeps, and none forms the (out, in) matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.errors import RankError
from polyrank.lora.factor import Factor


def fold(f: Factor) -> Factor:
    """Move the scale into B.  fold(f).delta == f.delta and fold(f).scale == 1."""
    return Factor(f.a, f.scale * f.b)


def regauge(f: Factor, scale: float) -> Factor:
    """Write the same update with another scale.  regauge(f, s).delta == f.delta."""
    return f if f.scale == scale else Factor(f.a, (f.scale / scale) * f.b, scale)


def pad(f: Factor, rank: int) -> Factor:
    """Append empty slots up to `rank`.  pad(f, r).delta == f.delta."""
    extra = rank - f.rank
    if extra < 0:
        raise RankError(f"cannot pad rank {f.rank} to the smaller rank {rank}; truncate instead")
    a = torch.cat([f.a, f.a.new_zeros(extra, f.a.shape[1])], dim=0)
    b = torch.cat([f.b, f.b.new_zeros(f.b.shape[0], extra)], dim=1)
    return Factor(a, b, f.scale)


def truncate(f: Factor, rank: int) -> Factor:
    """Keep the leading `rank` slots.  truncate(pad(f, r), f.rank) == f."""
    return Factor(f.a[:rank], f.b[:, :rank], f.scale)


def resize(f: Factor, rank: int) -> Factor:
    """Exactly `rank` slots: the leading ones, or all of them and empty ones."""
    return truncate(f, rank) if f.rank >= rank else pad(f, rank)


def stack(factors: Sequence[Factor], weights: Sequence[float]) -> Factor:
    """Exact weighted sum; ranks add.  stack(fs, ws).delta == Σ w·f.delta."""
    a = torch.cat([f.a for f in factors], dim=0)
    b = torch.cat([w * f.scale * f.b for f, w in zip(factors, weights, strict=True)], dim=1)
    return Factor(a, b)


def recompress(f: Factor, rank: int | None = None) -> Factor:
    """Best approximation of rank at most `rank` (Eckart-Young), slots by falling singular value.

        B = Q_b R_b,  Aᵀ = Q_a R_a,  R_b R_aᵀ = U Σ Vᵀ   ⇒   A' = (Q_a V)ᵀ,  B' = Q_b U Σ

    The rows of A' are orthonormal and the columns of B' carry the singular values, so that
    truncating the result is again the best approximation, and a start handed to a client has
    rows of A as long as fresh ones. Slots below the precision of the dtype are emptied.

    Args:
        f: the factor; any rank, also above min(out, in).
        rank: slots to keep; None keeps all min(rank, out, in), which is lossless.
    """
    qb, rb = torch.linalg.qr(f.scale * f.b)
    qa, ra = torch.linalg.qr(f.a.T)
    u, s, vt = torch.linalg.svd(rb @ ra.T, full_matrices=False)
    floor = s[:1] * max(f.shape) * torch.finfo(s.dtype).eps
    s = torch.where(s > floor, s, 0.0)
    best = Factor((s > 0)[:, None] * (vt @ qa.T), (qb @ u) * s)
    return best if rank is None else truncate(best, rank)


def singular_values(f: Factor) -> Float[Tensor, " k"]:
    """Singular values of the update, falling; k = min(rank, out, in)."""
    rb = torch.linalg.qr(f.scale * f.b, mode="r").R
    ra = torch.linalg.qr(f.a.T, mode="r").R
    return torch.linalg.svdvals(rb @ ra.T)


def inner(f: Factor, g: Factor) -> Tensor:
    """⟨f.delta, g.delta⟩ = s_f s_g · Σ (B_fᵀB_g ∘ A_fA_gᵀ), a scalar."""
    return f.scale * g.scale * ((f.b.T @ g.b) * (f.a @ g.a.T)).sum()


def norm(f: Factor) -> Tensor:
    """‖f.delta‖ (Frobenius), a scalar."""
    return inner(f, f).clamp_min(0).sqrt()


def refill(f: Factor, rows: Float[Tensor, "rank in"]) -> Factor:
    """Give slots that are empty in both A and B a row of A, so that gradients reach them.

    refill(f, rows).delta == f.delta; no slot of the result is empty in both.
    """
    empty = (f.a == 0).all(dim=1) & (f.b == 0).all(dim=0)
    return Factor(torch.where(empty[:, None], rows, f.a), f.b, f.scale)


def append(parts: Sequence[Factor], f: Factor) -> list[Factor]:
    """Add a term to a sum kept as parts, in memory that does not grow with the terms.

    Σ delta is unchanged: once the stacked rank passes 2·min(out, in) the parts are recompressed
    without loss to one of rank at most min(out, in).
    """
    grown = [*parts, f]
    if sum(p.rank for p in grown) <= 2 * min(f.shape):
        return grown
    return [recompress(stack(grown, [1.0] * len(grown)))]
