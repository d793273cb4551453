"""A run under way: what it is made of."""

from dataclasses import dataclass, field

from polyrank import algorithms
from polyrank.engine.simulate import Simulator
from polyrank.experiment.setup import Setup
from polyrank.messages import Client
from polyrank.recipe import Recipe
from polyrank.server.loop import Exchange, Federation, Plan, Round


@dataclass(slots=True, weakref_slot=True)
class Run:
    """One run under way.

    Args:
        recipe: what is done.
        setup: model and data.
        plan: what stays the same over the rounds.
        exchange: the engine.
        federation: what the server holds.
        idle: who takes no part, and why.
        simulator: the clients, where they are in this process; elsewhere only they know what they
            hold, so that what is measured on it is absent.
        latest: whose uploads counted in the last round.
        probed: a round, and the clients that are measured in it.
    """

    recipe: Recipe
    setup: Setup
    plan: Plan
    exchange: Exchange
    federation: Federation
    idle: dict[str, str]
    simulator: Simulator | None = None
    latest: list[Client] = field(default_factory=list)
    probed: tuple[int, frozenset[str]] = (0, frozenset())

    @property
    def personal(self) -> bool:
        return algorithms.about(self.recipe.algorithm.name).personal

    def accept(self, done: Round) -> None:
        """Go on from a finished round."""
        self.federation, self.latest = done.federation, [r.client for r in done.replies]
