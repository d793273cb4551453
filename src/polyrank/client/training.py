"""Local steps of the clients on the bench, at once: few forward and backward passes for all.

loss = Σ_i (mean over client i's batch + its penalty)      (nothing of i depends on another client)

The only place where an optimizer steps.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from polyrank.client.job import Job, Task
from polyrank.client.model import Workbench, logits
from polyrank.client.placing import placed, seat, trainable
from polyrank.client.rules import proximal, tail
from polyrank.data.batches import Batch, Tokens, alike, batches, merged
from polyrank.messages import Prune
from polyrank.recipe.schema import Local
from polyrank.seeds import derive, seeded

Penalty = Callable[[], Tensor]


def train(bench: Workbench, task: Task, jobs: Sequence[Job]) -> list[list[float]]:
    """Train the models on the bench, each on its own client's examples.

    Args:
        bench: with the jobs' models, in their order.
        task: the recipe's part in it.
        jobs: may differ in the number of steps.

    Returns:
        Every client's loss at every step.
    """
    own = [trainable(bench, job.download.train, i) for i, job in enumerate(jobs)]
    optimizer = _optimizer(task, own)
    penalties = [
        _penalty(bench, i, [*factors, *head], task.local.prox, jobs[i].download.prune)
        for i, (factors, head) in enumerate(own)
    ]
    tokens = jobs[0].share.tokens
    streams = [stream(task, job) for job in jobs]
    counts = [steps_of(task.local, len(job.share.train)) for job in jobs]
    losses: list[list[float]] = [[] for _ in jobs]
    bench.net.train()
    with seeded(task.seed, "fit", task.round, *(job.client.id for job in jobs)):
        while active := [i for i, n in enumerate(counts) if n > len(losses[i])]:
            optimizer.zero_grad(set_to_none=True)
            some = [next(streams[i]) for i in active]
            for run in alike(some):  # of similar length; each client's gradient comes from one
                placed_at = [active[j] for j in run]
                seat(bench, placed_at)
                each = client_losses(bench, tokens, [some[j] for j in run])
                extra = [penalty() for i in placed_at if (penalty := penalties[i]) is not None]
                torch.autograd.backward(torch.stack([each.sum(), *extra]).sum())
                for i, loss in zip(placed_at, each.tolist(), strict=True):
                    losses[i].append(loss)
            if task.local.clip is not None:
                for i in active:
                    nn.utils.clip_grad_norm_([*own[i][0], *own[i][1]], task.local.clip)
            optimizer.step()  # of a client without a gradient nothing changes
    seat(bench, range(len(jobs)))
    return losses


def client_losses(bench: Workbench, tokens: Tokens, some: Sequence[Batch]) -> Tensor:
    """Every active client's mean loss over the predictions in its own batch."""
    batch, real = merged(some, tokens.pad)
    losses, counts = bench.objective.losses(logits(bench, tokens, batch), batch)
    total, of = ((t.view(len(some), -1) * real).sum(dim=1) for t in (losses, counts))
    return total / of


def stream(task: Task, job: Job) -> Iterator[Batch]:
    """Epoch after epoch, each in an order of its own."""
    generator = derive(task.seed, "batches", task.round, job.client.id)
    while True:
        yield from batches(job.share.tokens, job.share.train, task.local.batch, generator)


def learning_rate_at(local: Local, round: int, rounds: int) -> float:
    """The share of the learning rate in force in a round: warm-up, then the schedule's fall."""
    if round <= local.warmup:
        return round / (local.warmup + 1)
    done = (round - 1 - local.warmup) / max(1, rounds - local.warmup)
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return falls[local.schedule]


def _optimizer(
    task: Task, own: Sequence[tuple[list[nn.Parameter], list[nn.Parameter]]]
) -> Optimizer:
    local = task.local
    share = learning_rate_at(local, task.round, task.rounds)
    groups = [
        {"params": [p for factors, _ in own for p in factors], "lr": share * local.lr},
        {"params": [p for _, head in own for p in head],
         "lr": share * (local.head_lr or local.lr)},
    ]  # fmt: skip
    if local.optimizer == "sgd":
        return SGD(groups, momentum=local.momentum, weight_decay=local.weight_decay)
    return AdamW(groups, weight_decay=local.weight_decay, fused=True)


def _penalty(
    bench: Workbench, client: int, trained: list[nn.Parameter], mu: float, prune: Prune | None
) -> Penalty | None:
    """What is added to a client's loss at every step; None for nothing."""
    starts = [p.detach().clone() for p in trained] if mu else []
    terms: list[Penalty] = [lambda: proximal(trained, starts, mu)] if mu else []
    if prune is not None:
        factors, weight = placed(bench, client), prune.penalty
        terms.append(lambda: weight * tail(factors.values(), prune))
    return (lambda: torch.stack([term() for term in terms]).sum()) if terms else None


def steps_of(local: Local, examples: int) -> int:
    """The optimizer steps of a round with so many examples."""
    return local.steps or local.epochs * math.ceil(examples / local.batch)
