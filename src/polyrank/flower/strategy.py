"""Polyrank as the strategy of an existing ServerApp, whose clients train PEFT adapters.

    strategy = Strategy("flexlora", scale=1.0)
    result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=3)

Clients answer as they do to Flower's FedAvg, with `arrays`, and `metrics` that have `num-examples`.
Each is sent an adapter of its own rank, which it states once (flower/rank.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from polyrank import algorithms
from polyrank.errors import FederationError, MessageError
from polyrank.flower.arrays import packed, taken
from polyrank.flower.nodes import EXAMPLES, LOG, Nodes
from polyrank.lora.algebra import pad
from polyrank.lora.factor import Adapter, Factor
from polyrank.lora.spectral import best
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.schema import Aggregation
from polyrank.server.loop import Federation, Plan, train

Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]


@dataclass(slots=True)
class Strategy:
    """An algorithm of this package for an app with clients of its own.

    Args:
        algorithm: its name; one whose clients need nothing but factors to start from.
        options: its options.
        scale: α/r of every client's LoRA config: `lora_alpha = scale * r`.
        fraction: share of the nodes in each round.
        least: nodes that must have stated their ranks before the first round.
        aggregation: weights and server optimizer.
        seed: for the first factors and the sampling.

    Raises:
        FederationError: the algorithm needs more of its clients than ordinary ones do.
        RecipeError: there is no such algorithm or option.
    """

    algorithm: str = "flexlora"
    options: Mapping[str, object] = field(default_factory=dict)
    scale: float = 1.0
    fraction: float = 1.0
    least: int = 1
    aggregation: Aggregation = field(default_factory=Aggregation)
    seed: int = 0

    def __post_init__(self) -> None:
        algorithms.load(self.algorithm, **self.options)
        if not ordinary(self.algorithm):
            able = ", ".join(name for name in algorithms.names() if ordinary(name))
            raise FederationError(
                f"{self.algorithm} needs clients that do more than train what they are sent; use "
                f"polyrank.flower.client_app on the nodes, or one of {able}"
            )

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600.0,
        train_config: ConfigRecord | None = None,
        evaluate_fn: Evaluate | None = None,
    ) -> Result:
        """All rounds; returns Flower's result, whose arrays are the global adapter.

        Args:
            grid: Flower's way to the nodes.
            initial_arrays: an adapter of the largest rank, as PEFT's state dict: its shapes, and
                what is trained whole. Factors start as the algorithm says.
            num_rounds: how many.
            timeout: seconds that a round may take.
            train_config: sent to the clients, with the round's number as `server-round`.
            evaluate_fn: (round, global adapter of the largest rank) to metrics, before the first
                round and after each.

        Raises:
            FederationError: too few nodes are there, or one states no rank that can be.
            MessageError: `initial_arrays` is no adapter.
        """
        begun = taken(initial_arrays, self.scale)
        app = Nodes(grid, initial_arrays, train_config or ConfigRecord(), timeout, self.scale)
        plan = self._plan(app, begun, num_rounds)
        federation = Federation(plan.algorithm.init(plan.template, self.seed), begun.dense)
        result = Result(self._read(plan, federation, initial_arrays))
        _evaluate(result, 0, evaluate_fn)
        for done in train(plan, app.exchange, federation):
            number = done.federation.round
            for reply in done.left_out:
                LOG.warning("round %d: node %s: %s", number, reply.client.id, reply.failure)
            counted = [app.metrics[reply.client.id] for reply in done.replies]
            if counted:
                result.train_metrics_clientapp[number] = _mean(counted, number)
            result.arrays = self._read(plan, done.federation, initial_arrays)
            _evaluate(result, number, evaluate_fn)
        return result

    def _plan(self, app: Nodes, begun: Adapter, rounds: int) -> Plan:
        about = algorithms.about(self.algorithm)
        template = {
            n: Factor(torch.zeros_like(f.a), torch.zeros_like(f.b))
            for n, f in begun.factors.items()
        }
        most = max((f.rank for f in template.values()), default=0)
        if not most:
            raise MessageError("initial_arrays holds no lora_A and lora_B")
        clients = [Client(str(node), rank) for node, rank in app.gathered(most, self.least).items()]
        if not about.mixed and {c.rank for c in clients} != {most}:
            ranks = ", ".join(map(str, sorted({c.rank for c in clients})))
            raise FederationError(
                f"{self.algorithm} needs all at the rank of initial_arrays, {most}; "
                f"nodes have {ranks}"
            )
        how = self.aggregation.model_copy(
            update={"weights": self.aggregation.weights or about.weights}
        )
        algorithm = algorithms.load(self.algorithm, **self.options)
        return Plan(
            algorithm, clients, template, rounds, self.fraction, self.seed, how,
            meet=lambda number: app.met(most, LOG.warning),
        )  # fmt: skip

    def _read(self, plan: Plan, federation: Federation, like: ArrayRecord) -> ArrayRecord:
        """The global adapter, at the largest rank: an update of full rank as well as it can be."""
        factors = {}
        for name, f in plan.algorithm.read(federation.state).items():
            rank = plan.template[name].rank
            factors[name] = pad(f if f.rank <= rank else best([f], rank), rank)
        return packed(Adapter(factors, federation.dense), like, self.scale)


def ordinary(name: str) -> bool:
    """Whether the algorithm's clients need only factors to start from: seen on two rounds of it."""
    algorithm, client = algorithms.load(name), Client("0", 1)
    like = {"layer": Factor(torch.zeros(1, 2), torch.zeros(2, 1))}
    state = algorithm.init(like, 0)
    for _ in range(2):
        sent = algorithm.send(state, client)
        plain = replace(sent, start={}, dense={}, fresh=None) == Download()
        whole = all(n in sent.start and min(sent.start[n].shape) for n in like)
        if not (plain and whole):
            return False
        state = algorithm.aggregate(state, [Upload(client, sent.start, 1)])[0]
    return not algorithms.about(name).personal


def _mean(counted: list[RecordDict], number: int) -> MetricRecord:
    """Flower's mean of what the nodes measured; none where their metrics are not of one kind."""
    try:
        return aggregate_metricrecords(counted, EXAMPLES)
    except (KeyError, TypeError, ValueError) as error:
        LOG.warning("round %d: metrics of the nodes do not fit each other: %r", number, error)
        return MetricRecord()


def _evaluate(result: Result, number: int, evaluate: Evaluate | None) -> None:
    if evaluate and (metrics := evaluate(number, result.arrays)) is not None:
        result.evaluate_metrics_serverapp[number] = metrics
