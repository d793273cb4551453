"""How many clients train at once on one base."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from polyrank.client.memory import profile
from polyrank.client.model import Workbench, logits, template, tolerance
from polyrank.client.placing import Model, dense, place, place_all, several
from polyrank.client.room import free
from polyrank.data.batches import Tokens, in_order, merged
from polyrank.errors import RecipeError
from polyrank.lora.factor import Factor
from polyrank.seeds import derive

TOKENS = 4096  # in a step: the most that was measured (LOG.md)
MOST = 32
SHARE = 0.5  # of the free memory: heaps fragment, and others need some too


class Step(NamedTuple):
    """One client's step, as the memory that it takes depends on it.

    Args:
        batch: examples in a batch.
        length: tokens in each of them, at most.
        moments: tensors that the optimizer keeps per parameter.
    """

    batch: int
    length: int
    moments: int = 2


def group_size(
    bench: Workbench,
    tokens: Tokens,
    asked: int | Literal["auto"],
    step: Step,
    ranks: Sequence[int],
) -> int:
    """How many clients can train at once: as asked, or so many that a step has enough tokens and
    fits into a half of the memory that is free.

    Args:
        bench: the model; what is placed on it is dropped.
        tokens: examples to compare models on.
        asked: by the recipe.
        step: of one client.
        ranks: that clients may have.

    Raises:
        RecipeError: several are asked for, and this model cannot serve them at once.
    """
    size = _worth(bench, step, ranks) if asked == "auto" else asked
    if size == 1 or (reason := _hindrance(bench, tokens)) is None:
        return size
    if asked == "auto":
        return 1
    raise RecipeError("engine.group", f"{asked}: {reason}; use 1")


def _worth(bench: Workbench, step: Step, ranks: Sequence[int]) -> int:
    size = min(MOST, TOKENS // (step.batch * step.length), len(ranks))
    room = free(next(bench.net.parameters()).device)
    if size < 2 or room is None:
        return max(1, size)
    return profile(bench, *step).most(ranks, int(SHARE * room), size)


@torch.no_grad()
def _hindrance(bench: Workbench, tokens: Tokens) -> str | None:
    """Why the model cannot serve several clients at once; None where it can, as compared."""
    if not several(bench):
        owned = next(n for n in bench.head if n.rpartition(".")[0] not in bench.heads)
        return f"{owned} of the head is no part of a linear layer"
    bench.net.eval()
    models = [_some(bench, rank) for rank in (1, 1, 2)]
    parts = list(in_order(tokens, 2, torch.arange(min(len(tokens), 6))))
    parts = [parts[i % len(parts)] for i in range(len(models))]
    alone = []
    for model, part in zip(models, parts, strict=True):
        place_all(bench, [model])
        every = torch.ones(len(part), dtype=torch.bool)
        alone.append(bench.objective.predictions(logits(bench, tokens, part), part, every))
    start = dense(bench)
    place_all(bench, models)
    batch, real = merged(parts, tokens.pad)
    out = logits(bench, tokens, batch)
    found = bench.objective.predictions(out, batch, real.flatten() > 0)
    place(bench, {}, start)
    wanted = torch.cat(alone)
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    return (
        None if difference < tolerance(bench) else f"the model's logits differ by {difference:.1g}"
    )


def _some(bench: Workbench, rank: int) -> Model:
    draw = derive(0, "group", rank)
    return Model({
        name: Factor(*(torch.randn(t.shape, generator=draw) / t.numel() ** 0.5 for t in (f.a, f.b)))
        for name, f in template(bench, rank).items()
    })  # fmt: skip
