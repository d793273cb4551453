"""What a recipe will ask of a client at each rank, before it is run: memory, seconds, bytes.

Memory is the most that this process has in a few real steps at the lowest rank, what a step's
tensors take more at a higher one (client/memory.py), and a client's messages, as bytes and read.
Seconds are those of such steps, at the lowest and the highest rank and straight between them. Bytes
are those of packed messages (experiment/costs.py).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from polyrank.client.fit import fit
from polyrank.client.job import job
from polyrank.client.memory import profile
from polyrank.client.room import forget_peak, peak
from polyrank.client.training import steps_of
from polyrank.engine import passing
from polyrank.experiment.costs import cost
from polyrank.experiment.ready import planned, prepared
from polyrank.experiment.setup import Setup, moments, text_length
from polyrank.messages import Client
from polyrank.recipe import Recipe
from polyrank.server.loop import Plan

FEW, TRIES = 4, 3  # steps that are timed together, and how often
LONG = 2.0  # seconds of a step of which one by itself says enough


class Need(NamedTuple):
    """What one client of a rank needs: of those that have it, the one with the most examples.

    Args:
        rank: of the client.
        clients: how many have this rank.
        examples: that it trains on.
        steps: of a round.
        memory: bytes of its process at its fullest moment.
        seconds: that its part of a round takes by itself, on this machine.
        up, down: bytes of its messages in the second round.
    """

    rank: int
    clients: int
    examples: int
    steps: int
    memory: int
    seconds: float
    up: int
    down: int


def needs(recipe: Recipe) -> list[Need]:
    """What the recipe asks of its clients, by rank.

    Raises:
        PolyrankError: whatever is wrong with the recipe, the data or the model.
    """
    setup = prepared(recipe)
    plan, _ = planned(recipe, setup)
    bytes_ = cost(
        plan.algorithm, plan.clients, plan.template, setup.dense, recipe.seed, recipe.wire
    )
    most = _most(setup, plan.clients)
    forget_peak()
    ends = {min(most): _pace(recipe, setup, plan, most[min(most)])}
    lowest = peak()  # heaps do not give back what the passes below take
    if max(most) not in ends:
        ends[max(most)] = _pace(recipe, setup, plan, most[max(most)])
    one = profile(setup.bench, recipe.local.batch, text_length(recipe), moments(recipe))
    found = []
    for rank, client in most.items():
        examples = len(setup.parts[client.id])
        count, pace = steps_of(recipe.local, examples), _between(ends, rank)
        up, down = bytes_.up[rank], bytes_.down[rank]
        found.append(Need(
            rank, sum(c.rank == rank for c in plan.clients), examples, count,
            lowest + one.peak(rank) - one.peak(min(most)) + 2 * (up + down),
            pace.start + count * pace.step, up, down,
        ))  # fmt: skip
    return found


class Pace(NamedTuple):
    """Seconds of a round before the first step, and of each step."""

    start: float
    step: float


def _most(setup: Setup, clients: Sequence[Client]) -> dict[int, Client]:
    """By rank, ascending, the client with the most examples."""
    by_size = sorted(clients, key=lambda c: len(setup.parts[c.id]))
    return dict(sorted({c.rank: c for c in by_size}.items()))


def _pace(recipe: Recipe, setup: Setup, plan: Plan, client: Client) -> Pace:
    """Of this client's first round, by one step of it and by some more."""
    state = plan.algorithm.init(plan.template, recipe.seed)
    sent = replace(plan.algorithm.send(state, client), dense=setup.dense)
    one = job(setup.share(client.id), client, sent, {})

    def timed(count: int) -> float:
        local = recipe.local.model_copy(update={"steps": count})
        task = passing.task(recipe.model_copy(update={"local": local}), 1)
        begun = time.perf_counter()
        fit(setup.bench, task, [one])
        return time.perf_counter() - begun

    # The first step of a process takes longer.
    few, tries = (FEW, TRIES) if timed(1) < LONG else (1, 1)
    pairs = [(timed(1), timed(1 + few)) for _ in range(tries)]
    step = median((more - first) / few for first, more in pairs)
    return Pace(max(0.0, median(first for first, _ in pairs) - step), step)


def _between(ends: dict[int, Pace], rank: int) -> Pace:
    low, high = min(ends), max(ends)
    share = (rank - low) / (high - low) if high > low else 0.0
    return Pace(*(a + share * (b - a) for a, b in zip(ends[low], ends[high], strict=True)))
