"""Pure operations on factors; each states the law it keeps, and none forms the (out, in) matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
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


def scaled(f: Factor, weight: float) -> Factor:
    """A multiple of an update, without a copy.  scaled(f, w).delta == w·f.delta."""
    return Factor(f.a, f.b, weight * f.scale)


def stack(factors: Sequence[Factor], weights: Sequence[float] | None = None) -> Factor:
    """Exact weighted sum (each once by default); ranks add.  stack(fs, ws).delta == Σ w·f.delta."""
    weights = [1.0] * len(factors) if weights is None else weights
    a = torch.cat([f.a for f in factors], dim=0)
    b = torch.cat([w * f.scale * f.b for f, w in zip(factors, weights, strict=True)], dim=1)
    return Factor(a, b)


def inner(f: Factor, g: Factor) -> Tensor:
    """⟨f.delta, g.delta⟩ = s_f s_g · Σ (B_fᵀB_g ∘ A_fA_gᵀ), a scalar."""
    return f.scale * g.scale * ((f.b.T @ g.b) * (f.a @ g.a.T)).sum()


def difference(f: Factor, g: Factor) -> Factor:
    """f − g of one rank, for sides that moved little: (B−B₀)A + B₀(A−A₀) loses no digits to it.

    difference(f, g).delta == f.delta − g.delta; of a side that stands alone, the sides' difference.
    """
    b = f.scale * f.b - g.scale * g.b
    if not min(f.shape):
        return Factor(f.a - g.a, b)
    return Factor(torch.cat([f.a, f.a - g.a]), torch.cat([b, g.scale * g.b], dim=1))


def identical(f: Factor, g: Factor) -> bool:
    """Whether they are the same numbers, in the same slots: quick beside a product of them."""
    if f is g:
        return True
    return f.scale == g.scale and torch.equal(f.b, g.b) and torch.equal(f.a, g.a)


def norm(f: Factor) -> Tensor:
    """‖f.delta‖ (Frobenius), a scalar."""
    return inner(f, f).clamp_min(0).sqrt()


def energy(f: Factor) -> Tensor:
    """‖f.delta‖² (Frobenius), a scalar; formed densely where the rank is beyond the layer's."""
    return f.delta.square().sum() if f.rank > min(f.shape) else inner(f, f).clamp_min(0)


def vacant(f: Factor) -> Bool[Tensor, " rank"]:
    """Which slots are empty in both A and B, so that no gradient reaches them."""
    if f.a[:, :1].all():  # as trained rows are: no need to read the rest
        return f.a.new_zeros(f.rank, dtype=torch.bool)
    return (f.a == 0).all(dim=1) & (f.b == 0).all(dim=0)


def refill(f: Factor, rows: Float[Tensor, "rank in"]) -> Factor:
    """Give vacant slots a row of A, so that gradients reach them.

    refill(f, rows).delta == f.delta; no slot of the result is vacant.
    """
    empty = vacant(f)
    return Factor(torch.where(empty[:, None], rows, f.a), f.b, f.scale) if empty.any() else f


def append(parts: Sequence[Factor], f: Factor) -> list[Factor]:
    """Add a term to a sum kept as parts, in memory that does not grow with the terms.

    Σ delta is unchanged: the parts stay factored until that is larger than a dense matrix beside
    its identity, then they are one `whole`.
    """
    grown = [*parts, f]
    out, width = f.shape
    most = min(f.shape) + out * width // (out + width)
    return grown if sum(p.rank for p in grown) <= most else [total(grown)]


def total(parts: Sequence[Factor]) -> Factor:
    """The exact sum: stacked, or `whole` where the ranks together are above the layer's.

    total(fs).delta == Σ f.delta.
    """
    if len(parts) == 1:
        return parts[0]
    if sum(f.rank for f in parts) <= min(parts[0].shape):
        return stack(parts)
    dense = parts[0].delta.clone()
    loose = [f for f in parts[1:] if f.rank < min(f.shape)]
    for f in parts[1:]:
        if f.rank >= min(f.shape):
            dense += f.delta
    if loose:
        stacked = stack(loose)
        dense.addmm_(stacked.b, stacked.a)
    return whole(dense)


def whole(delta: Float[Tensor, "out in"]) -> Factor:
    """A dense update as a factor: itself and an identity, on its shorter side.

    whole(d).delta == d, without a product.
    """
    out, width = delta.shape
    if width <= out:
        return Factor(torch.eye(width, dtype=delta.dtype, device=delta.device), delta)
    return Factor(delta, torch.eye(out, dtype=delta.dtype, device=delta.device))


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
