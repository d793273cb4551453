"""How good the model on the bench is on some examples: loss, accuracy, the metric by class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from polyrank.client.model import Workbench, logits
from polyrank.client.objective import Marks, joined
from polyrank.client.placing import seat
from polyrank.data.batches import Batch, Indices, Tokens, in_order, merged


@dataclass(frozen=True, slots=True)
class Score:
    """Mean loss and accuracy over all predictions, and the task's metric on each class (NaN if
    none of it is held out)."""

    loss: float
    accuracy: float
    by_class: tuple[float, ...]

    def on(self, histogram: Sequence[int]) -> float:
        """The metric if the classes were mixed like this: Σ_c h_c·metric_c / Σ h.

        Classes of which no example is held out do not count; NaN if none is left.
        """
        pairs = zip(histogram, self.by_class, strict=True)
        known = [(h, value) for h, value in pairs if not math.isnan(value)]
        total = sum(h for h, _ in known)
        return sum(h * value for h, value in known) / total if total else math.nan


def average(scores: Sequence[Score]) -> Score:
    """The mean of several models' scores."""
    n = len(scores)
    by_class = zip(*(s.by_class for s in scores), strict=True)
    return Score(
        sum(s.loss for s in scores) / n,
        sum(s.accuracy for s in scores) / n,
        tuple(sum(column) / n for column in by_class),
    )


def score(bench: Workbench, tokens: Tokens, batch: int, indices: Indices | None = None) -> Score:
    """The score of the model on the bench, or of the active one of several; see `score_all`."""
    return score_all(bench, tokens, batch, 1, indices)[0]


@torch.inference_mode()
def score_all(
    bench: Workbench, tokens: Tokens, batch: int, models: int, indices: Indices | None = None
) -> list[Score]:
    """The scores of the active models on the same examples: each batch is made once for all.

    Args:
        bench: the models.
        tokens: held-out examples.
        batch: examples of one model in a batch.
        models: how many are active.
        indices: which of the examples; all where not given.
    """
    bench.net.eval()
    parts = in_order(tokens, batch, indices)
    marks = [_marked(bench, tokens, [part] * models) for part in parts]
    return [_score(bench, own) for own in zip(*marks, strict=True)]


@torch.inference_mode()
def scores(
    bench: Workbench, tokens: Tokens, batch: int, indices: Sequence[Indices]
) -> list[Score | None]:
    """The score of every model on the bench, each on examples of its own; None without any.

    Args:
        bench: the models.
        tokens: held-out examples.
        batch: examples of one client in a batch.
        indices: which of them, by client.
    """
    bench.net.eval()
    made = {id(own): list(in_order(tokens, batch, own)) for own in indices}
    parts = [made[id(own)] for own in indices]  # equal examples of several are padded once
    marks: list[list[Marks]] = [[] for _ in parts]
    for step in range(max(map(len, parts))):
        active = [i for i, own in enumerate(parts) if step < len(own)]
        seat(bench, active)
        found = _marked(bench, tokens, [parts[i][step] for i in active])
        for i, one in zip(active, found, strict=True):
            marks[i].append(one)
    seat(bench, range(len(indices)))
    return [_score(bench, own) if own else None for own in marks]


def _marked(bench: Workbench, tokens: Tokens, some: Sequence[Batch]) -> list[Marks]:
    """How each active model does on its batch."""
    batch, _ = merged(some, tokens.pad)
    out = logits(bench, tokens, batch)
    found = (*bench.objective.losses(out, batch), bench.objective.hits(out, batch))
    rows = (t.view(len(some), -1) for t in found)
    return [
        Marks(part.labels, *(row[: len(part)] for row in own))
        for part, *own in zip(some, *rows, strict=True)
    ]


def _score(bench: Workbench, parts: Sequence[Marks]) -> Score:
    marks = joined(parts)
    of = marks.counts.sum()
    mean, right = (float(t.sum() / of) for t in (marks.losses, marks.hits))
    return Score(mean, right, bench.objective.by_class(marks))
