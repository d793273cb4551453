"""One client's round: fold what was sent into the base, train the factors, send them back.

The only place where an optimizer steps.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW, Optimizer

from polyrank.client.model import Workbench, fold, logits, place, placed, take, template, trainable
from polyrank.client.private import Private, added, base_of, kept
from polyrank.client.rules import chosen, proximal, pruned, tail
from polyrank.client.score import score
from polyrank.client.start import begin
from polyrank.data.batches import Batch, Tokens, batches
from polyrank.lora import algebra
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Prune, Upload
from polyrank.recipe.schema import Local, Lora
from polyrank.seeds import derive, seeded


class Share(NamedTuple):
    """A client's own examples: indices of those it trains on, and of those it keeps aside."""

    tokens: Tokens
    train: Sequence[int]
    validation: Sequence[int] = ()


class Task(NamedTuple):
    """What a client needs to know beside its download.

    Args:
        lora: for the scale at the client's rank.
        local: steps, batches, optimizer.
        round: this round's number, from 1.
        rounds: how many there are (for the schedule).
        seed: the recipe's.
    """

    lora: Lora
    local: Local
    round: int
    rounds: int
    seed: int


Slots = Mapping[str, tuple[int, ...]]
Penalty = Callable[[], Tensor]


def fit(
    bench: Workbench,
    share: Share,
    task: Task,
    client: Client,
    message: tuple[Download, Private],
) -> tuple[Private, Upload]:
    """Train on the client's own examples from what it was sent.

    Args:
        bench: the base model, whose places for factors are overwritten.
        share: the client's own examples.
        task: the recipe's part in it.
        client: who, and at which rank.
        message: the download, and what the client kept before it.

    Returns:
        What the client keeps now, and its upload.
    """
    download, before = message
    base = receive(bench, task.lora, client, download, before)
    slots = _choose(bench, share, task, client, download)
    if slots is not None:
        _freeze_others(bench, base, slots)
    start, _ = take(bench)
    begun = _measured(bench, share, task, "start_")
    losses = _train(bench, share, task, client, download)
    ended = _measured(bench, share, task, "")
    trained, dense = take(bench)
    if download.prune is not None:
        trained = pruned(start, trained, download.prune)
    sent = _cores(bench) or {n: algebra.half(f, download.up) for n, f in trained.items()}
    metrics = {"loss": sum(losses) / len(losses), "steps": float(len(losses)), **begun, **ended}
    upload = Upload(client, sent, len(share.train), dense, metrics, slots or {})
    healthy = all(t.isfinite().all() for f in trained.values() for t in (f.a, f.b))
    return kept(download, base, trained) if healthy else before, upload


def receive(
    bench: Workbench, lora: Lora, client: Client, download: Download, before: Private
) -> dict[str, Tensor]:
    """Put the model that a client was sent on the bench; returns the updates its base then holds.

    Raises:
        MessageError: the download builds on what this client does not have.
    """
    base = base_of(download, client, before)
    fold(bench, base)
    start = begin(download, client, template(bench, 1), before)
    place(bench, start, download.dense, lora.scale_at(client.rank), download.core)
    return base


def learning_rate_at(local: Local, round: int, rounds: int) -> float:
    """The share of the learning rate in force in a round: warm-up, then the schedule's fall."""
    if round <= local.warmup:
        return round / (local.warmup + 1)
    done = (round - 1 - local.warmup) / max(1, rounds - local.warmup)
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return falls[local.schedule]


def _train(
    bench: Workbench, share: Share, task: Task, client: Client, download: Download
) -> list[float]:
    """The loss at every step; the factors and the head on the bench are trained."""
    factors, head = trainable(bench, download.train)
    optimizer = _optimizer(task, factors, head)
    penalty = _penalty(bench, [*factors, *head], task.local.prox, download.prune)
    bench.net.train()
    with seeded(task.seed, "fit", task.round, client.id):
        stream = islice(_stream(share, task, client), _steps(task.local, len(share.train)))
        return [
            _step(bench, share.tokens, batch, optimizer, (task.local.clip, penalty))
            for batch in stream
        ]


def _optimizer(task: Task, factors: list[nn.Parameter], head: list[nn.Parameter]) -> Optimizer:
    local = task.local
    share = learning_rate_at(local, task.round, task.rounds)
    groups = [
        {"params": factors, "lr": share * local.lr},
        {"params": head, "lr": share * (local.head_lr or local.lr)},
    ]
    if local.optimizer == "sgd":
        return SGD(groups, momentum=local.momentum, weight_decay=local.weight_decay)
    return AdamW(groups, weight_decay=local.weight_decay, fused=True)


def _penalty(
    bench: Workbench, trained: list[nn.Parameter], mu: float, prune: Prune | None
) -> Penalty | None:
    """What is added to the loss at every step; None for nothing."""
    starts = [p.detach().clone() for p in trained] if mu else []
    terms: list[Penalty] = [lambda: proximal(trained, starts, mu)] if mu else []
    if prune is not None:
        weight = prune.penalty
        terms.append(lambda: weight * tail(placed(bench).values(), prune))
    return (lambda: torch.stack([term() for term in terms]).sum()) if terms else None


def _steps(local: Local, examples: int) -> int:
    return local.steps or local.epochs * math.ceil(examples / local.batch)


def _stream(share: Share, task: Task, client: Client) -> Iterator[Batch]:
    """Epoch after epoch, each in an order of its own."""
    generator = derive(task.seed, "batches", task.round, client.id)
    while True:
        yield from batches(share.tokens, share.train, task.local.batch, generator)


def _step(
    bench: Workbench,
    tokens: Tokens,
    batch: Batch,
    optimizer: Optimizer,
    rules: tuple[float | None, Penalty | None],
) -> float:
    clip, penalty = rules
    optimizer.zero_grad(set_to_none=True)
    loss = cross_entropy(logits(bench, tokens, batch), batch.labels)
    torch.autograd.backward(loss if penalty is None else loss + penalty())
    if clip is not None:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trained, clip)
    optimizer.step()
    return float(loss.detach())


def _choose(
    bench: Workbench, share: Share, task: Task, client: Client, download: Download
) -> Slots | None:
    """The slots that the client's first batch pulls at most; None where all are trained."""
    if download.select is None:
        return None
    trainable(bench, download.train)
    bench.net.eval()
    batch = next(_stream(share, task, client))
    torch.autograd.backward(cross_entropy(logits(bench, share.tokens, batch), batch.labels))
    pulls = {name: _gradient(layer.a, layer.b) for name, layer in bench.layers.items()}
    bench.net.zero_grad(set_to_none=True)
    return chosen(take(bench)[0], pulls, download.select * len(bench.layers))


def _gradient(a: nn.Parameter, b: nn.Parameter) -> Factor:
    left, right = (torch.zeros_like(p) if p.grad is None else p.grad for p in (a, b))
    return Factor(left, right)


def _freeze_others(bench: Workbench, base: Mapping[str, Tensor], slots: Slots) -> None:
    """Fold the slots that were not chosen into the base; place the chosen ones alone."""
    whole, _ = take(bench)
    others = {
        n: algebra.take(f, [j for j in range(f.rank) if j not in slots[n]])
        for n, f in whole.items()
    }
    fold(bench, added(base, others))
    place(bench, {n: algebra.take(f, slots[n]) for n, f in whole.items()})


def _cores(bench: Workbench) -> dict[str, Factor]:
    """Trained cores, as they travel; none where the sides themselves are trained."""
    cores = {n: layer.core for n, layer in bench.layers.items() if layer.core is not None}
    return {n: Factor(c.detach().clone(), c.detach()[:0].clone()) for n, c in cores.items()}


def _measured(bench: Workbench, share: Share, task: Task, name: str) -> dict[str, float]:
    """Loss and accuracy on the client's validation examples, if it keeps some aside."""
    if not share.validation:
        return {}
    found = score(bench, share.tokens, max(64, 4 * task.local.batch), share.validation)
    return {f"{name}val_loss": found.loss, f"{name}val_accuracy": found.accuracy}
