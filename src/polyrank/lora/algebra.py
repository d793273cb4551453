"""Pure operations on factors; each states the law it keeps, and none forms the (out, in) matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.errors import RankError
from polyrank.lora.factor import Factor
from polyrank.seeds import derive


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


def half(f: Factor, sides: str) -> Factor:
    """Only the named sides ("ab", "a" or "b"); one that is left out has width 0.

    half(f, "a").a == f.a and half(f, "a").b holds nothing; the rank stays.
    """
    return Factor(f.a if "a" in sides else f.a[:, :0], f.b if "b" in sides else f.b[:0], f.scale)


def take(f: Factor, slots: Sequence[int]) -> Factor:
    """The named slots, in that order.  take(f, range(f.rank)) == f."""
    index = torch.tensor(slots, dtype=torch.int64, device=f.a.device)
    return Factor(f.a[index], f.b[:, index], f.scale)


def put(f: Factor, slots: Sequence[int], new: Factor) -> Factor:
    """`f` with the named slots replaced (the scale folded into B).  take(put(f, s, g), s) == g."""
    index = torch.tensor(slots, dtype=torch.int64, device=f.a.device)
    return Factor(f.a.index_copy(0, index, new.a), fold(f).b.index_copy(1, index, fold(new).b))


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
    dense = f.rank > min(f.shape) and f.a.dtype != torch.float64
    u, s, vt = _by_gram(f.delta) if dense else _by_core(f)
    floor = s[:1] * max(f.shape) * torch.finfo(s.dtype).eps
    s = torch.where(s > floor, s, 0.0)
    best = Factor((s > 0)[:, None] * vt, u * s)
    return best if rank is None else truncate(best, rank)


def leading(f: Factor, rank: int, seed: int) -> Factor:
    """An approximation of rank at most `rank`, nearly the best, without decomposing all of f.

        Y = Δ(ΔᵀΔ)³Ω,  Q = orth(Y),  QᵀΔ = U Σ Vᵀ   ⇒   A' = Vᵀ,  B' = Q U Σ

    A projection: ‖f.delta − leading.delta‖² = ‖f.delta‖² − ‖leading.delta‖². Where the rank is
    not far below the layer's, or in float64, it is the best approximation itself.

    Args:
        f: the factor; any rank.
        rank: slots to keep.
        seed: of the random test matrix Ω.

    Halko, Martinsson & Tropp, SIAM Review 2011, https://arxiv.org/abs/0909.4061
    """
    if 4 * rank >= min(f.shape) or f.a.dtype == torch.float64:
        return recompress(f, rank)
    dense = f.delta if f.rank > min(f.shape) else None

    def across(x: Tensor) -> Tensor:
        return f.scale * f.b @ (f.a @ x) if dense is None else dense @ x

    def back(y: Tensor) -> Tensor:
        return f.scale * f.a.T @ (f.b.T @ y) if dense is None else dense.T @ y

    test = torch.randn(f.shape[1], rank + 10, generator=derive(seed, "leading")).to(f.a)
    q = torch.linalg.qr(across(test)).Q
    for _ in range(3):
        q = torch.linalg.qr(across(torch.linalg.qr(back(q)).Q)).Q
    u, s, vt = torch.linalg.svd(back(q).T, full_matrices=False)
    return truncate(Factor(vt, (q @ u) * s), rank)


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
    eye = torch.eye(delta.shape[1], dtype=delta.dtype, device=delta.device)
    return recompress(Factor(eye, delta))


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


def energy(f: Factor) -> Tensor:
    """‖f.delta‖² (Frobenius), a scalar; formed densely where the rank is beyond the layer's."""
    return f.delta.square().sum() if f.rank > min(f.shape) else inner(f, f).clamp_min(0)


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


def ridge(f: Factor, a: Float[Tensor, "rank in"], penalty: float) -> Float[Tensor, "out rank"]:
    """The B that comes closest to an update on given rows of A.

    argmin_B ‖f.delta − B a‖² + penalty·‖B‖²  =  f.delta aᵀ (a aᵀ + penalty·I)⁻¹

    Args:
        f: the update; any rank.
        a: the rows; an empty one gets an empty column.
        penalty: above 0, so that rows may depend on each other.
    """
    eye = torch.eye(len(a), dtype=a.dtype, device=a.device)
    target = (f.scale * f.b) @ (f.a @ a.T)
    return torch.linalg.solve(a @ a.T + penalty * eye, target.T).T


def framed(
    f: Factor, rows: Float[Tensor, "rank in"], columns: Float[Tensor, "out rank"]
) -> tuple[Factor, Float[Tensor, "rank rank"]]:
    """Orthonormal sides and the core between them: B' C A' = f.delta, B'ᵀB' = A'A'ᵀ = 1.

    A side has no more directions than its width; slots beyond that are empty.

    Args:
        f: the update.
        rows: directions in the place of empty rows of A.
        columns: directions in the place of empty columns of B.

    Returns:
        (A', B') at the rank of `f`, and C.
    """
    a = torch.where((f.a != 0).any(dim=1)[:, None], f.a, rows)
    b = torch.where((f.b != 0).any(dim=0), f.b, columns)
    qa, qb = (
        torch.cat([q, q.new_zeros(len(q), f.rank - q.shape[1])], dim=1)
        for q in (torch.linalg.qr(a.T).Q, torch.linalg.qr(b).Q)
    )
    return Factor(qa.T, qb), f.scale * (qb.T @ f.b) @ (f.a @ qa)
