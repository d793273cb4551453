"""How good a model is: loss and accuracy on held-out examples, and the shape of an update."""

import torch
from torch import Tensor

from polyrank.client.model import Workbench, fold
from polyrank.client.placing import place
from polyrank.client.private import added
from polyrank.client.score import Score, score
from polyrank.data.batches import Tokens
from polyrank.lora.factor import Adapter, Factors
from polyrank.lora.spectral import effective_rank, singular_values

SHOWN = 64  # singular values kept in a record


def score_adapter(bench: Workbench, adapter: Adapter, tokens: Tokens, batch: int) -> Score:
    """The score of pretrained weights + ΔW with the adapter's dense tensors."""
    put(bench, adapter)
    return score(bench, tokens, batch)


def put(bench: Workbench, adapter: Adapter) -> None:
    """Let the bench hold pretrained weights + ΔW, the adapter's dense tensors, and no factors."""
    fold(bench, added({}, adapter.factors))
    place(bench, {}, adapter.dense)


def spectrum(factors: Factors) -> dict[str, object]:
    """Singular values of an update (mean over layers) and effective ranks, as JSON."""
    values = {name: singular_values(f).double() for name, f in factors.items()}
    shown = torch.stack([_shown(v) for v in values.values()]).mean(dim=0)
    ranks = {name: effective_rank(v) for name, v in values.items()}
    return {
        "values": [float(x) for x in shown[: max(map(len, values.values()))]],
        "effective_rank": sum(ranks.values()) / len(ranks),
        "layers": ranks,
    }


def _shown(values: Tensor) -> Tensor:
    padded = values.new_zeros(SHOWN)
    padded[: len(values[:SHOWN])] = values[:SHOWN]
    return padded
