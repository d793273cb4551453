"""How good a model is: loss and accuracy on held-out examples, and the shape of an update.

effective rank = exp(−Σ_j π_j ln π_j),  π = σ/Σσ      (Roy & Vetterli, EUSIPCO 2007)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from polyrank.client.fit import added
from polyrank.client.model import Workbench, fold, place
from polyrank.data.batches import Tokens, in_order
from polyrank.lora.algebra import singular_values
from polyrank.lora.factor import Adapter, Factors

SHOWN = 64  # singular values kept in a record


@dataclass(frozen=True, slots=True)
class Score:
    """Mean loss and accuracy, and each class's accuracy (NaN if none of it is held out)."""

    loss: float
    accuracy: float
    by_class: tuple[float, ...]

    def on(self, histogram: Sequence[int]) -> float:
        """Accuracy if the labels were mixed like this: Σ_c h_c·accuracy_c / Σ h.

        Classes of which no example is held out do not count; NaN if none is left.
        """
        pairs = zip(histogram, self.by_class, strict=True)
        known = [(h, accuracy) for h, accuracy in pairs if not math.isnan(accuracy)]
        total = sum(h for h, _ in known)
        return sum(h * accuracy for h, accuracy in known) / total if total else math.nan


def score_adapter(bench: Workbench, adapter: Adapter, tokens: Tokens, batch: int) -> Score:
    """The score of pretrained weights + ΔW with the adapter's dense tensors."""
    fold(bench, added({}, adapter.factors))
    place(bench, {}, adapter.dense)
    return score(bench, tokens, batch)


@torch.inference_mode()
def score(bench: Workbench, tokens: Tokens, batch: int) -> Score:
    """The score of the model on the bench as it is."""
    bench.net.eval()
    classes = int(bench.net.config.num_labels)
    losses, hits = torch.zeros(len(tokens)), torch.zeros(len(tokens))
    for b in in_order(tokens, batch):
        logits = bench.net(input_ids=b.input_ids, attention_mask=b.attention_mask).logits
        losses[b.indices] = cross_entropy(logits, b.labels, reduction="none")
        hits[b.indices] = (logits.argmax(dim=1) == b.labels).float()
    count = torch.bincount(tokens.labels, minlength=classes)
    right = torch.bincount(tokens.labels, weights=hits, minlength=classes)
    by_class = tuple(float(x) for x in right / count)
    return Score(float(losses.mean()), float(hits.mean()), by_class)


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


def effective_rank(values: Tensor) -> float:
    """exp of the entropy of the singular values' shares; 0 for no update at all."""
    if not values.any():
        return 0.0
    share = values / values.sum()
    return float(torch.special.entr(share).sum().exp())


def _shown(values: Tensor) -> Tensor:
    padded = values.new_zeros(SHOWN)
    padded[: len(values[:SHOWN])] = values[:SHOWN]
    return padded
