"""Training only the top of a model: what lies below the adapted layers is computed once per text.

logits = top(h),  h = bottom(text)      (h is kept: nothing in `bottom` is trained)

The bottom runs without dropout, in training too; above the cut dropout stays as it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from polyrank.client import activations
from polyrank.client.comparing import difference
from polyrank.client.cut import Cut, Kind, cut, other
from polyrank.client.model import Workbench, tolerance
from polyrank.data.batches import Batch, Tokens, in_order
from polyrank.errors import RecipeError

_BATCH = 64  # examples that are computed at a time


@dataclass(frozen=True, slots=True)
class Cached:
    """A model that starts from kept activations: batch ↦ logits, as the whole model gives them.

    Args:
        net: the whole model, whose mode (training or evaluation) is the top's too.
        parts: where it is cut.
        tokens: the examples.
        states: one row per token ("block") or per example ("first-token").
    """

    net: nn.Module
    parts: Cut
    tokens: Tokens
    states: Float[Tensor, "rows width"]

    def __call__(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """Logits of a batch of `tokens`, with the factors and the head that are placed now."""
        top, slot = self.parts.top, self.parts.slot
        if top.training != self.net.training:
            top.train(self.net.training)
        if self.parts.kind == "first-token":
            slot.states = self._kept(batch.indices)[:, None]
            out = top(input_ids=batch.input_ids[:, :1])  # a lone token needs no mask
        else:
            slot.states = self._kept(_rows(self.tokens, batch))
            out = top(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        logits: Tensor = out.logits
        return logits

    def _kept(self, rows: Int64[Tensor, "*rows"]) -> Float[Tensor, "*rows width"]:
        return self.states[rows].to(next(self.net.parameters()).dtype)


def cached(bench: Workbench, kind: Kind, tokens: Tokens, store: Path | None = None) -> Cached:
    """The model with the activations of its frozen part, computed or read, and compared.

    Args:
        bench: the model; its places for factors are empty afterwards, and its mode is evaluation.
        kind: "block" keeps what enters the first adapted block, "first-token" what leaves the
            last block's attention at the first token.
        tokens: the examples.
        store: a folder where activations are kept between runs.

    Raises:
        RecipeError: the model cannot be cut so, or its logits would be others.
    """
    parts = cut(bench, kind)
    bench.net.train(False)
    path = store and store / f"{activations.name(bench, parts, tokens)}.safetensors"
    states = activations.load(path) if path else None
    if states is None:
        states = _computed(bench.net, parts, tokens)
        if path:
            activations.save(path, states)
    found = Cached(bench.net, parts, tokens, states)
    if not (far := difference(bench, tokens, found)) < tolerance(bench):
        raise RecipeError(
            "cache",
            f"{kind} does not give this model's logits (difference {far:.1g} of the "
            f"largest); {other(kind)}",
        )
    return found


@torch.no_grad()
def _computed(net: Any, parts: Cut, tokens: Tokens) -> Float[Tensor, "rows width"]:
    """What leaves `parts.below`, for all tokens or for the first one of each example."""
    first = parts.kind == "first-token"
    states = torch.empty(len(tokens if first else tokens.ids), net.config.hidden_size)
    seen: list[Any] = []
    hook = parts.below.register_forward_hook(lambda module, args, out: seen.append(out))
    try:
        for batch in in_order(tokens, _BATCH):
            net(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
            last = seen.pop()
            out = last[0] if isinstance(last, tuple) else last
            real = batch.attention_mask.bool()
            rows = batch.indices if first else _rows(tokens, batch)[real]
            states[rows] = (out[:, 0] if first else out[real]).float()
    finally:
        hook.remove()
    return states


def _rows(tokens: Tokens, batch: Batch) -> Int64[Tensor, "batch length"]:
    """Where the batch's tokens stand in `Tokens.ids`; padding, which is masked, gets row 0."""
    ahead = torch.arange(batch.input_ids.shape[1])
    return (tokens.starts[batch.indices][:, None] + ahead) * batch.attention_mask
