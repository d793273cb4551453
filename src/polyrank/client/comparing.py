"""Whether another way through a model gives its logits: compared on some texts, not believed."""

from collections.abc import Callable

import torch
from torch import Tensor

from polyrank.client.model import Workbench, template
from polyrank.client.placing import place
from polyrank.data.batches import Batch, Tokens, in_order
from polyrank.lora.factor import Factor
from polyrank.seeds import derive

_TEXTS = 16


@torch.no_grad()
def difference(bench: Workbench, tokens: Tokens, other: Callable[[Batch], Tensor]) -> float:
    """How far the other logits are from the whole model's, relative to its largest.

    Args:
        bench: the model; its places for factors are empty afterwards, and its mode is evaluation.
        tokens: examples, of which some from short to long are taken.
        other: batch ↦ logits, with the factors that are placed then: some in every place.
    """
    sizes = tokens.lengths(torch.arange(len(tokens))).argsort(stable=True)
    some = sizes[torch.linspace(0, len(tokens) - 1, min(_TEXTS, len(tokens))).long()]
    (batch,) = in_order(tokens, len(some), some)
    bench.net.eval()
    place(bench, {name: _random(f, name) for name, f in template(bench, 1).items()})
    try:
        whole = bench.net(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        found = other(batch)
    finally:
        place(bench, {})
    return float((found - whole).abs().max() / whole.abs().max())


def texts(bench: Workbench) -> Tokens:
    """Any texts of two to nine tokens, the same for every copy of the model."""
    words, pad = bench.net.config.vocab_size, int(bench.net.config.pad_token_id or 0)
    lengths = torch.arange(_TEXTS) % 8 + 2
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    drawn = torch.randint(1, words, (int(starts[-1]),), generator=derive(0, "texts"))
    ids = (pad + drawn) % words  # none of them the padding
    return Tokens(ids, torch.zeros(_TEXTS, dtype=torch.int64), starts, pad)


def _random(like: Factor, name: str) -> Factor:
    draw = derive(0, "prefix", name)
    a, b = (torch.randn(t.shape, generator=draw) / t.numel() ** 0.5 for t in (like.a, like.b))
    return Factor(a, b)
