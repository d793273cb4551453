"""Linear layers whose products leave no half of a processor idle.

    y = x Wᵀ + b

All rows are multiplied at once, however they lie: of one token of each text torch makes a product
for each text, with a copy of W. And torch multiplies float32 matrices on x86 by MKL, which takes
AVX2 on processors that are not Intel's, whatever they have. oneDNN, which torch has for bfloat16,
takes AVX-512 there: with the same numbers to rounding it is twice as fast (LOG.md).
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


@cache
def able() -> bool:
    """Whether this processor is one of those."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    other = known.get("avx512_f") and "AMD" in known.get("cpu_name", "")
    there = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return bool(other and torch._C.has_mkl and there)


def suits(x: Tensor) -> bool:
    """Whether what is multiplied is in float32, and on such a processor."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and able()


def linear(
    x: Float[Tensor, "*rows in"], weight: Float[Tensor, "out in"],
    bias: Float[Tensor, " out"] | None = None,
) -> Float[Tensor, "*rows out"]:  # fmt: skip
    """As torch's, by whichever is quicker."""
    rows, shape = x.reshape(-1, x.shape[-1]), (*x.shape[:-1], len(weight))
    if suits(x) and weight.dtype == x.dtype and x.numel() and weight.numel():
        return _Linear.apply(rows, weight, bias).view(shape)  # type: ignore[no-untyped-call]
    return functional.linear(rows, weight, bias).view(shape)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        return (
            _product(grad, weight.mT, None) if ctx.needs_input_grad[0] else None,
            grad.mT @ x if ctx.needs_input_grad[1] else None,
            grad.sum(dim=0) if ctx.needs_input_grad[2] else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # Anything that lies otherwise takes ten times as long, or a hundred.
    if not (weight.is_contiguous() or weight.mT.is_contiguous()):
        weight = weight.contiguous()
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, "none", [], "")
    return y
