"""A round of some clients: their models on one base, trained at once, and what each sends back.

One client alone goes the same way.
"""

from collections.abc import Sequence

from polyrank.client.choice import choose
from polyrank.client.job import Job, Task
from polyrank.client.model import Workbench, fold, template
from polyrank.client.placing import Model, cores, place_all, take
from polyrank.client.private import Private, kept
from polyrank.client.rules import pruned
from polyrank.client.score import scores
from polyrank.client.start import begin
from polyrank.client.training import train
from polyrank.lora import algebra
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Download, Upload
from polyrank.recipe.schema import Lora

Metrics = list[dict[str, float]]


def fit(bench: Workbench, task: Task, jobs: Sequence[Job]) -> list[tuple[Private, Upload]]:
    """Train every client on its own examples from what it was sent.

    Args:
        bench: the base model, whose places for factors are overwritten.
        task: the recipe's part in it.
        jobs: clients that can train at once (`together`).

    Returns:
        For each what it keeps now, and its upload.
    """
    fold(bench, jobs[0].base)
    place_all(bench, [_model(bench, task.lora, one) for one in jobs])
    slots = choose(bench, task, jobs[0]) if len(jobs) == 1 else None
    # Copies, so only for those whose cut is judged by where they started.
    starts = {i: take(bench, i)[0] for i, one in enumerate(jobs) if one.download.prune}
    begun = _measured(bench, jobs, task, "start_")
    losses = train(bench, task, jobs)
    ended = _measured(bench, jobs, task, "")
    found = []
    for i, one in enumerate(jobs):
        sent, dense = take(bench, i)
        trained = sent if (cut := one.download.prune) is None else pruned(starts[i], sent, cut)
        mean = {"loss": sum(losses[i]) / len(losses[i]), "steps": float(len(losses[i]))}
        upload = Upload(
            one.client, _sides(bench, i, one.download, trained), len(one.share.train), dense,
            {**mean, **begun[i], **ended[i]}, slots or {},
        )  # fmt: skip
        healthy = all(t.isfinite().all() for f in trained.values() for t in (f.a, f.b))
        keeps = kept(one.download, one.base, trained) if healthy else one.before
        found.append((keeps, upload))
    return found


def receive(bench: Workbench, lora: Lora, jobs: Sequence[Job]) -> None:
    """Put the models that clients on one base were sent on the bench."""
    fold(bench, jobs[0].base)
    place_all(bench, [_model(bench, lora, one) for one in jobs])


def _model(bench: Workbench, lora: Lora, one: Job) -> Model:
    download = one.download
    start = begin(download, one.client, template(bench, 1), one.before)
    return Model(start, download.dense, lora.scale_at(one.client.rank), download.core)


def _sides(bench: Workbench, client: int, download: Download, trained: Factors) -> Factors:
    """What of the trained factors travels; a core travels alone, in the place of A."""
    own = {n: Factor(c, c[:0].clone()) for n, c in cores(bench, client).items()}
    return own or {n: algebra.half(f, download.up) for n, f in trained.items()}


def _measured(bench: Workbench, jobs: Sequence[Job], task: Task, name: str) -> Metrics:
    """Loss and accuracy of each on the examples that it keeps aside, if it does."""
    aside = [one.share.validation for one in jobs]
    some = max(64, 4 * task.local.batch)
    found = scores(bench, jobs[0].share.tokens, some, aside) if any(map(len, aside)) else []
    return [
        {f"{name}val_loss": own.loss, f"{name}val_accuracy": own.accuracy} if own else {}
        for own in found or [None for _ in jobs]
    ]
