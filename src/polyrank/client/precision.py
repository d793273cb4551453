"""Computing in less than float32: the frozen base in bfloat16, all that is trained in float32.

y = W₁₆ x + s · B₁₆ A₁₆ x     (A and B are kept in float32; head, loss and optimizer are float32)
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor


def narrow(net: Any, head: Collection[str], dtype: torch.dtype) -> None:
    """Keep the base's weights in `dtype`, and compute with them so.

    Args:
        net: a model as it was loaded; what is quantised stays so.
        head: names of the parameters that stay in float32.
        dtype: float32 changes nothing.
    """
    if dtype == torch.float32:
        return
    for name, parameter in net.named_parameters():
        if name not in head and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for name in dict.fromkeys(n.rpartition(".")[0] for n in head):
        net.get_submodule(name).register_forward_pre_hook(_widened)


def slow(net: Any) -> str | None:
    """Why this machine is slow with the model's dtype; None where it is not."""
    weight = next(net.parameters())
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or _has_bfloat16():
        return None
    return (
        "engine.dtype bfloat16: this processor has no instructions for it, and is up to 300 times "
        "slower than with float32"
    )


def _has_bfloat16() -> bool:
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # of x86 it says yes too soon
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private, may be missing
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def _widened(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # A module-level function, so that copies of the model keep it.
    return tuple(t.float() for t in args)
