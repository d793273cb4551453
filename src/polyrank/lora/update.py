"""What is added to one layer's frozen weight: factored, or dense where that is smaller.

s·B A has r(m+n) numbers, ΔW has mn.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.lora.algebra import identical, stack
from polyrank.lora.factor import Factor

Update = Factor | Tensor


def joined(before: Update | None, f: Factor) -> Update:
    """One more factor.  dense(joined(u, f)) == dense(u) + f.delta.

    Args:
        before: the update so far, which is not modified; None is nothing.
        f: of the same layer.
    """
    if isinstance(before, Tensor):
        return before + f.delta
    parts = [f] if before is None else [before, f]
    if _smaller(parts):
        return stack(parts)
    return f.delta if before is None else before.delta + f.delta


def dense(update: Update) -> Float[Tensor, "out in"]:
    """ΔW itself."""
    return update if isinstance(update, Tensor) else update.delta


def same(one: Update, other: Update) -> bool:
    """Whether two are bit for bit the same, kept in the same way."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and torch.equal(one, other)  # type: ignore[arg-type]
    return identical(one, other)


def _smaller(parts: Sequence[Factor]) -> bool:
    """Whether their ranks together hold fewer numbers than a dense matrix."""
    out, width = parts[0].shape
    return sum(f.rank for f in parts) * (out + width) < out * width
