"""Batches of tokenised texts of similar length, padded to their longest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Generator, Tensor
from torch.nn.functional import pad

WINDOW = 16  # batches that are sorted by length together
PASS = 128  # tokens that one more pass costs as much as; 180 with the optimizer (LOG.md)
Indices = Sequence[int] | Int64[Tensor, " _"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenised examples, end to end in one tensor.

    Args:
        ids: the token ids of all examples, possibly mapped from a file.
        labels: the class of each example.
        starts: where each example starts in `ids`, and the end.
        pad: the id that fills a batch up.
        counted: of a language model, which tokens it learns to predict.
        whole: tokens of each example before it was cut, where that is known.
    """

    ids: Int[Tensor, " total"]
    labels: Int64[Tensor, " examples"]
    starts: Int64[Tensor, " examples+1"]
    pad: int
    counted: Bool[Tensor, " total"] | None = None
    whole: Int64[Tensor, " examples"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def lengths(self, indices: Int64[Tensor, " some"]) -> Int64[Tensor, " some"]:
        """Tokens in each of the examples at `indices`."""
        return self.starts[indices + 1] - self.starts[indices]


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples side by side, as long as the longest of them.

    Args:
        input_ids: token ids, padded on the right.
        attention_mask: 1 on a token, 0 on padding.
        labels: the class of each example.
        indices: where the examples stand in `Tokens`.
        counted: of a language model, which tokens it learns to predict.
    """

    input_ids: Int64[Tensor, "batch length"]
    attention_mask: Int64[Tensor, "batch length"]
    labels: Int64[Tensor, " batch"]
    indices: Int64[Tensor, " batch"]
    counted: Bool[Tensor, "batch length"] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def batches(tokens: Tokens, indices: Indices, size: int, generator: Generator) -> Iterator[Batch]:
    """One epoch over `indices` in random batches of similar length; one may be smaller.

    Args:
        tokens: of all examples.
        indices: the client's own examples; each comes exactly once.
        size: examples in a batch.
        generator: decides the order.
    """
    held = torch.as_tensor(indices, dtype=torch.int64)
    held = held[torch.randperm(len(held), generator=generator)]
    windows = torch.split(held, WINDOW * size)
    cuts = [cut for window in windows for cut in _by_length(tokens, window, size)]
    for position in torch.randperm(len(cuts), generator=generator).tolist():
        yield _batch(tokens, cuts[position])


def in_order(tokens: Tokens, size: int, indices: Indices | None = None) -> Iterator[Batch]:
    """All (or these) examples once, from short to long; `Batch.indices` leads back."""
    chosen = range(len(tokens)) if indices is None else indices
    cuts = _by_length(tokens, torch.as_tensor(chosen, dtype=torch.int64), size)
    return (_batch(tokens, cut) for cut in cuts)


def merged(some: Sequence[Batch], fill: int) -> tuple[Batch, Float[Tensor, "batches rows"]]:
    """Batches one after another, each with as many rows as the largest, and which rows count.

    Args:
        some: one or more; a smaller one repeats its last row.
        fill: the id that fills texts up.
    """
    rows, length = max(map(len, some)), max(b.input_ids.shape[1] for b in some)
    real = torch.stack([(torch.arange(rows) < len(b)).float() for b in some])
    if len(some) == 1:
        return some[0], real
    parts = []
    for b in some:
        at, more = torch.arange(rows).clamp(max=len(b) - 1), length - b.input_ids.shape[1]
        ids, mask = pad(b.input_ids, (0, more), value=fill), pad(b.attention_mask, (0, more))
        counted = () if b.counted is None else (pad(b.counted, (0, more))[at],)
        parts.append((ids[at], mask[at], b.labels[at], b.indices[at], *counted))
    return Batch(*(torch.cat(column) for column in zip(*parts, strict=True))), real


def alike(some: Sequence[Batch]) -> list[list[int]]:
    """Which batches to merge, so that padding and passes cost least together; places ascend.

    Σ_runs (rows · longest · batches + PASS) is the least of all ways to cut them, by length.
    """
    order = sorted(range(len(some)), key=lambda i: some[i].input_ids.shape[1])
    rows = max(map(len, some))
    best: list[tuple[int, list[list[int]]]] = [(0, [])]
    for end in range(1, len(order) + 1):
        longest = rows * some[order[end - 1]].input_ids.shape[1]
        cost, start = min((best[s][0] + longest * (end - s) + PASS, s) for s in range(end))
        best.append((cost, [*best[start][1], sorted(order[start:end])]))
    return best[-1][1]


def _by_length(tokens: Tokens, indices: Int64[Tensor, " some"], size: int) -> list[Tensor]:
    """`indices` from the shortest to the longest example, in pieces of `size`."""
    order = indices[tokens.lengths(indices).argsort(stable=True)]
    return [cut for cut in torch.split(order, size) if len(cut)]


def _batch(tokens: Tokens, indices: Int64[Tensor, " batch"]) -> Batch:
    lengths = tokens.lengths(indices)
    ahead = torch.arange(int(lengths.max()))
    real = ahead < lengths[:, None]
    places = (tokens.starts[indices][:, None] + ahead) * real
    input_ids = torch.where(real, tokens.ids[places].long(), tokens.pad)
    counted = None if tokens.counted is None else tokens.counted[places] & real
    return Batch(input_ids, real.long(), tokens.labels[indices], indices, counted)
