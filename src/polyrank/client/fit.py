"""One client's round: fold what was sent into the base, train the factors, send them back.

The only place where an optimizer steps.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from polyrank.client.model import Workbench, fold, place, take, template, trainable
from polyrank.client.start import begin
from polyrank.data.batches import Batch, Tokens, batches
from polyrank.errors import MessageError
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.schema import Local, Lora
from polyrank.seeds import derive, seeded

Base = Mapping[str, Tensor]  # dense updates by layer that a client holds in its base


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


def fit(
    bench: Workbench,
    data: tuple[Tokens, Sequence[int]],
    task: Task,
    client: Client,
    message: tuple[Download, Base],
) -> tuple[Base, Upload]:
    """Train on the client's own examples from what it was sent.

    Args:
        bench: the base model, whose places for factors are overwritten.
        data: all tokens, and the indices of the client's own examples.
        task: the recipe's part in it.
        client: who, and at which rank.
        message: the download, and what the client's base held before it.

    Returns:
        What the client's base holds now, and its upload.
    """
    download, before = message
    tokens, indices = data
    base = receive(bench, task.lora, client, download, before)
    factors, head = trainable(bench, download.train)
    optimizer = _optimizer(task, factors, head)
    bench.net.train()
    with seeded(task.seed, "fit", task.round, client.id):
        stream = islice(_stream(tokens, indices, task, client), _steps(task.local, len(indices)))
        losses = [_step(bench.net, batch, optimizer, task.local.clip) for batch in stream]
    trained, dense = take(bench)
    metrics = {"loss": sum(losses) / len(losses), "steps": float(len(losses))}
    return base, Upload(client, trained, len(indices), dense, metrics)


def receive(bench: Workbench, lora: Lora, client: Client, download: Download, before: Base) -> Base:
    """Put the model that a client was sent on the bench; returns what its base then holds.

    Raises:
        MessageError: the fold builds on one that this client does not have.
    """
    if download.since and not before:
        raise MessageError(
            f"client {client.id!r} was sent a fold on top of number {download.since}, "
            "but its base is the pretrained one"
        )
    base = added(before if download.since else {}, download.fold)
    fold(bench, base)
    rank_one = template(bench, 1)
    place(bench, begin(download, client, rank_one), download.dense, lora.scale_at(client.rank))
    return base


def added(base: Base, factors: Factors) -> dict[str, Tensor]:
    """Dense updates with the factors' added; inputs are not modified."""
    folded = {name: f.delta for name, f in factors.items()}
    both = {name: base[name] + folded[name] for name in base.keys() & folded.keys()}
    return {**base, **folded, **both}


def learning_rate_at(local: Local, round: int, rounds: int) -> float:
    """The share of the learning rate in force in a round: warm-up, then the schedule's fall."""
    if round <= local.warmup:
        return round / (local.warmup + 1)
    done = (round - 1 - local.warmup) / max(1, rounds - local.warmup)
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return falls[local.schedule]


def _optimizer(task: Task, factors: list[nn.Parameter], head: list[nn.Parameter]) -> Optimizer:
    local = task.local
    share = learning_rate_at(local, task.round, task.rounds)
    groups = [
        {"params": factors, "lr": share * local.lr},
        {"params": head, "lr": share * (local.head_lr or local.lr)},
    ]
    if local.optimizer == "sgd":
        return SGD(groups, momentum=local.momentum, weight_decay=local.weight_decay)
    return AdamW(groups, weight_decay=local.weight_decay)


def _steps(local: Local, examples: int) -> int:
    return local.steps or local.epochs * math.ceil(examples / local.batch)


def _stream(tokens: Tokens, indices: Sequence[int], task: Task, client: Client) -> Iterator[Batch]:
    """Epoch after epoch, each in an order of its own."""
    generator = derive(task.seed, "batches", task.round, client.id)
    while True:
        yield from batches(tokens, indices, task.local.batch, generator)


def _step(net: nn.Module, batch: Batch, optimizer: Optimizer, clip: float | None) -> float:
    optimizer.zero_grad(set_to_none=True)
    out = net(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
    out.loss.backward()
    if clip is not None:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(trained, clip)
    optimizer.step()
    return float(out.loss.detach())
