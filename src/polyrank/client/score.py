"""How good the model on the bench is on some examples: loss, accuracy, accuracy by class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from polyrank.client.model import Workbench, logits
from polyrank.data.batches import Tokens, in_order


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


def average(scores: Sequence[Score]) -> Score:
    """The mean of several models' scores."""
    n = len(scores)
    by_class = zip(*(s.by_class for s in scores), strict=True)
    return Score(
        sum(s.loss for s in scores) / n,
        sum(s.accuracy for s in scores) / n,
        tuple(sum(column) / n for column in by_class),
    )


@torch.inference_mode()
def score(
    bench: Workbench, tokens: Tokens, batch: int, indices: Sequence[int] | None = None
) -> Score:
    """The score of the model on the bench as it is.

    Args:
        bench: the model.
        tokens: held-out examples.
        batch: examples in a batch.
        indices: which of them; all where not given.
    """
    bench.net.eval()
    classes = int(bench.net.config.num_labels)
    chosen = torch.arange(len(tokens)) if indices is None else torch.tensor(indices)
    losses, hits = torch.zeros(len(tokens)), torch.zeros(len(tokens))
    for b in in_order(tokens, batch, chosen):
        out = logits(bench, tokens, b)
        losses[b.indices] = cross_entropy(out, b.labels, reduction="none")
        hits[b.indices] = (out.argmax(dim=1) == b.labels).float()
    labels = tokens.labels[chosen]
    count = torch.bincount(labels, minlength=classes)
    right = torch.bincount(labels, weights=hits[chosen], minlength=classes)
    by_class = tuple(float(x) for x in right / count)
    return Score(float(losses[chosen].mean()), float(hits[chosen].mean()), by_class)
