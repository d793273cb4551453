"""What a round will take at each client: memory, time on this machine, and MB, by its rank.

memory: profile (client/memory.py)    MB: messages of the second round (costs.py)
time = t₁ + (T − 1) · (t_{1+k} − t₁)/k    from a round of one step and one of 1 + k, for T steps
"""

import time
from collections import Counter
from collections.abc import Iterator
from statistics import median_low
from typing import NamedTuple

from polyrank import algorithms
from polyrank.client.fit import fit
from polyrank.client.job import Task, job
from polyrank.client.memory import profile
from polyrank.client.model import template
from polyrank.client.training import steps_of
from polyrank.experiment.costs import cost
from polyrank.experiment.ready import fitting, prepared
from polyrank.experiment.setup import Setup, moments, text_length
from polyrank.messages import Client, Download
from polyrank.recipe import Recipe

STEPS = 6  # that are timed: their batches differ in length


class Need(NamedTuple):
    """What clients of one rank need.

    Args:
        rank: theirs.
        clients: how many have it.
        memory: bytes of all tensors at the fullest moment of a step, for the longest texts.
        seconds: of a round of the one with the median number of examples.
        up: bytes of an upload.
        down: bytes of a download.
    """

    rank: int
    clients: int
    memory: int
    seconds: float
    up: int
    down: int


def plan(recipe: Recipe) -> list[Need]:
    """What the clients of a recipe need, by rank.

    Raises:
        PolyrankError: whatever is wrong with the recipe, the data or the model.
    """
    setup = prepared(recipe)
    clients, _, factors = fitting(recipe, setup)
    algorithm = algorithms.load(recipe.algorithm.name, **recipe.algorithm.options)
    sizes = cost(algorithm, clients, factors, setup.dense, recipe.seed, recipe.wire)
    needs = profile(setup.bench, recipe.local.batch, text_length(recipe), moments(recipe))
    return [
        Need(
            rank, count, needs.peak(rank), _seconds(recipe, setup, _typical(clients, rank)),
            sizes.up[rank], sizes.down[rank],
        )
        for rank, count in sorted(Counter(c.rank for c in clients).items())
    ]  # fmt: skip


def _typical(clients: list[Client], rank: int) -> Client:
    alike = [c for c in clients if c.rank == rank]
    middle = median_low(c.examples for c in alike)
    return next(c for c in alike if c.examples == middle)


def _seconds(recipe: Recipe, setup: Setup, client: Client) -> float:
    """A client's round, alone on this machine."""
    few, more = (min(_timed(recipe, setup, client, n)) for n in (1, 1 + STEPS))
    steps = steps_of(recipe.local, client.examples)
    return few + (steps - 1) * max(0.0, more - few) / STEPS


def _timed(recipe: Recipe, setup: Setup, client: Client, steps: int) -> Iterator[float]:
    """Rounds of so many steps; the first pays for what is made once."""
    local = recipe.local.model_copy(update={"steps": steps})
    start = Download(template(setup.bench, client.rank), dense=setup.dense)
    for _ in range(2):
        begun = time.monotonic()
        one = job(setup.share(client.id), client, start, {})
        fit(setup.bench, Task(recipe.lora, local, 1, recipe.rounds, recipe.seed), [one])
        yield time.monotonic() - begun
