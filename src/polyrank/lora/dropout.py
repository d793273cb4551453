"""Dropout with cheap draws: y = x · m / (1 − p),  m ~ Bernoulli(1 − p).

torch's own draws take 7 ns an element on a CPU, a seventh of a training step of MiniLM. Here an
element is kept or dropped by 16 random bits, four elements to a draw: p is rounded to a multiple of
2⁻¹⁶, and the scale is that of the p which is drawn, so that the mean is exact.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_BITS = 2**16
_NAME = "polyrank-sdpa"


def dropped(x: Float[Tensor, "*shape"], p: float, training: bool) -> Float[Tensor, "*shape"]:
    """`x` with elements set to zero, the others scaled up; `x` itself outside of training."""
    if not training or p == 0:
        return x
    drop = round(p * _BITS)
    if x.device.type != "cpu" or not 0 < drop < _BITS:
        return functional.dropout(x, p)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    keep = bits.view(torch.int16)[: x.numel()] >= drop - _BITS // 2
    return x * keep.to(x.dtype).mul_(_BITS / (_BITS - drop)).view(x.shape)


class Dropout(nn.Dropout):
    """As torch's, with draws that cost less."""

    def forward(self, input: Tensor) -> Tensor:
        return dropped(input, self.p, self.training)


def quicken(net: Any) -> None:
    """Let all dropout of a transformers model, that of its attention too, draw so."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
    if net.config._attn_implementation == "sdpa" and net._can_set_attn_implementation():
        net.set_attn_implementation(_NAME)


def attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads queries width"],
    key: Float[Tensor, "rows kv_heads keys width"],
    value: Float[Tensor, "rows kv_heads keys values"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "rows queries heads values"], None]:
    """softmax(s · Q Kᵀ + mask) dropped, times V; transformers' own wherever nothing is dropped."""
    causal = others.pop("is_causal", None)
    unmasked = attention_mask is None and getattr(module, "is_causal", True)
    plain = query.shape[1] == key.shape[1] and not causal and not unmasked
    asked = any(others.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    if not dropout or query.device.type != "cpu" or not plain or asked:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, causal, **others
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale) @ key.mT
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = dropped(scores.softmax(-1), dropout, True)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)
