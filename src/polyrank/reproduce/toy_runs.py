"""Runs of the toy problem: any algorithm, through the package's own loop."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from polyrank.algorithm import Info, State
from polyrank.algorithms import about, load
from polyrank.recipe.schema import Aggregation
from polyrank.reproduce.toy import LAYER, Matrix, Problem, Setting, clients, template
from polyrank.reproduce.toy_clients import Players, Trace
from polyrank.server.loop import Federation, Plan, train


@dataclass(frozen=True, slots=True)
class Method:
    """An algorithm with its options and its server optimizer."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        chosen = ", ".join(f"{k}={v}" for k, v in {**self.options, **self.server}.items())
        return f"{self.name}({chosen})" if chosen else self.name


class Step(NamedTuple):
    """One round of a run.

    Args:
        model: the server's update; of a personal algorithm the mean of what clients ended with.
        traces: by client, what it did.
        info: the round's diagnostics.
        refused: whether an upload was left out.
    """

    model: Matrix
    traces: Mapping[str, Trace]
    info: Info
    refused: bool


def ranks_of(name: str, setting: Setting) -> tuple[int, ...]:
    """The setting's ranks, or as many times their mean, rounded down, where they must be equal."""
    ranks = setting.ranks
    return ranks if about(name).mixed else (sum(ranks) // len(ranks),) * len(ranks)


def plan_of(method: Method, setting: Setting, seed: int, rounds: int) -> Plan:
    """Everybody takes part in every round, with the weights of the algorithm's paper."""
    known, ranks = about(method.name), ranks_of(method.name, setting)
    return Plan(
        load(method.name, **method.options),
        clients(ranks),
        template(setting, max(ranks)),
        rounds,
        participation=1.0,
        seed=seed,
        aggregation=Aggregation(weights=known.weights, **method.server),
        shared=not known.personal,
    )


def steps(
    plan: Plan, of: Problem, setting: Setting, lr: float, state: State = None
) -> Iterator[Step]:
    """Round after round.

    Args:
        plan: the algorithm and its clients.
        of: what the clients minimise.
        setting: their noise and steps.
        lr: their learning rate.
        state: what the server begins with; None is the algorithm's own first state.
    """
    players = Players(of, setting, lr, plan.seed)
    first = plan.algorithm.init(plan.template, plan.seed) if state is None else state
    for done in train(plan, players.exchange, Federation(first, {})):
        if plan.shared:
            model = plan.algorithm.read(done.federation.state)[LAYER].delta
        else:
            model = torch.stack([t.ended for t in players.traces.values()]).mean(dim=0)
        yield Step(model, dict(players.traces), done.info, bool(done.left_out))
