"""Training a few slots only: those that a client's data pulls at most (LoRA-A²)."""

from collections.abc import Mapping

import torch

from polyrank.client.job import Job, Task
from polyrank.client.model import Workbench, fold
from polyrank.client.placing import place, placed, take, trainable
from polyrank.client.private import added
from polyrank.client.rules import chosen
from polyrank.client.training import client_losses, stream
from polyrank.lora import algebra
from polyrank.lora.factor import Factor

Slots = Mapping[str, tuple[int, ...]]


def choose(bench: Workbench, task: Task, job: Job) -> Slots | None:
    """The slots that the client's first batch pulls at most; None where all are trained.

    The others are folded into the base, and the chosen ones are placed alone.
    """
    if job.download.select is None:
        return None
    trainable(bench, job.download.train)
    bench.net.eval()
    torch.autograd.backward(client_losses(bench, job.share.tokens, [next(stream(task, job))]).sum())
    pulls = {name: _gradient(f) for name, f in placed(bench).items()}
    bench.net.zero_grad(set_to_none=True)
    whole, _ = take(bench)
    slots = chosen(whole, pulls, job.download.select * len(bench.layers))
    others = {
        n: algebra.take(f, [j for j in range(f.rank) if j not in slots[n]])
        for n, f in whole.items()
    }
    fold(bench, added(job.base, others))
    place(bench, {n: algebra.take(f, slots[n]) for n, f in whole.items()})
    return slots


def _gradient(f: Factor) -> Factor:
    left, right = (torch.zeros_like(p) if p.grad is None else p.grad for p in (f.a, f.b))
    return Factor(left, right)
