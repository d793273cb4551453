"""A run under way in memory: what it is made of, and everything that is measured on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from weakref import proxy

from polyrank import algorithms
from polyrank.client.group import Step, group_size
from polyrank.client.job import Share
from polyrank.client.score import Score, average, score
from polyrank.engine.simulate import Simulator
from polyrank.evaluate import score_adapter, spectrum
from polyrank.experiment import facts
from polyrank.experiment.ready import planned
from polyrank.experiment.setup import Setup, moments
from polyrank.lora.factor import Adapter
from polyrank.messages import Client, Download
from polyrank.recipe import Recipe
from polyrank.report.format import Measured
from polyrank.seeds import fingerprint
from polyrank.server.loop import Federation, Plan, Reply, Round, participants, present
from polyrank.wire.pack import pack


@dataclass(slots=True, weakref_slot=True)
class Run:
    """One run under way.

    Args:
        recipe: what is done.
        setup: model and data.
        plan: what stays the same over the rounds.
        simulator: the clients.
        federation: what the server holds.
        idle: who takes no part, and why.
        latest: whose uploads counted in the last round.
    """

    recipe: Recipe
    setup: Setup
    plan: Plan
    simulator: Simulator
    federation: Federation
    idle: dict[str, str]
    latest: list[Client] = field(default_factory=list)

    @property
    def personal(self) -> bool:
        return algorithms.about(self.recipe.algorithm.name).personal

    def accept(self, done: Round) -> None:
        """Go on from a finished round."""
        self.federation, self.latest = done.federation, [r.client for r in done.replies]


def begin(recipe: Recipe, setup: Setup, private: Path | None) -> Run:
    """A run before its first round.

    Args:
        recipe: what is done.
        setup: model and data, prepared for it.
        private: the folder for what clients keep; None keeps it in memory.

    Raises:
        PolyrankError: nobody has data, or ranks that model or algorithm cannot have.
    """
    plan, idle = planned(recipe, setup)
    kept = setup.validation
    shares = {id: Share(setup.train, part, kept[id]) for id, part in setup.parts.items()}
    simulator = Simulator(setup.bench, shares, recipe, private, _group(recipe, setup, plan))
    federation = Federation(plan.algorithm.init(plan.template, recipe.seed), setup.dense)
    run = Run(recipe, setup, plan, simulator, federation, idle)
    # By a proxy: in a cycle the tensors of a finished run would wait for the garbage collector.
    simulator.probe = partial(_probe, proxy(run))
    return run


def _group(recipe: Recipe, setup: Setup, plan: Plan) -> int:
    """At most how many clients train at once."""
    length = 1 if recipe.cache == "first-token" else recipe.data.max_length
    step = Step(recipe.local.batch, length, moments(recipe))
    # Those whose rank may rise during the run count with the highest.
    top = next(iter(plan.template.values())).rank
    ranks = [top if plan.warmup else c.rank for c in plan.clients]
    return group_size(setup.bench, setup.train, recipe.engine.group, step, ranks)


def first(run: Run, label: str) -> dict[str, object]:
    """The record of what does not change over the rounds."""
    return facts.run_record(run.recipe, label, run.setup, list(run.plan.clients), run.idle)


def untrained(run: Run, seconds: float) -> dict[str, object]:
    """The record of round 0: the model before any training."""
    return facts.round_record(0, None, _evaluate(run), _spectrum(run), seconds)


def measured(run: Run, done: Round, seconds: float, always: bool = True) -> dict[str, object]:
    """The record of a finished round that the run has accepted.

    Args:
        run: after the round.
        done: the round.
        seconds: it took.
        always: give the spectrum also of rounds after which nothing is evaluated.
    """
    number, every = done.federation.round, run.recipe.evaluation.every
    due = number % every == 0 or number == run.recipe.rounds
    score = _evaluate(run) if due else None
    probes = [_after(run, r) for r in done.replies if r.before is not None]
    shape = _spectrum(run) if due or always else None
    return facts.round_record(number, done, score, shape, seconds, probes)


def final(run: Run, last: Measured, seconds: float, clients: Sequence[Client]) -> dict[str, object]:
    """The last record: what these clients hold, and the global model (or the mean of theirs)."""
    held = _held_by(run, clients)
    if run.personal:
        mean = average(list(held.values()))
        last = {"loss": mean.loss, "accuracy": mean.accuracy}
    return facts.final_record(last, held, run.setup, seconds)


def _probed(run: Run, round: int) -> list[Client]:
    """Who is measured just before and after the aggregation: the highest ranks of the round."""
    taking_part = participants(run.plan, run.federation, round)
    return sorted(taking_part, key=lambda c: -c.rank)[: run.recipe.evaluation.probe]


def _probe(run: Run, round: int, client: Client) -> float | None:
    """Accuracy of the model on the bench, just trained by this client, if it is measured."""
    if client.id not in {c.id for c in _probed(run, round)}:
        return None
    return _score_some(run).accuracy


def _after(run: Run, reply: Reply) -> dict[str, object]:
    """A client's accuracy just before the aggregation and, with what it is sent next, after it."""
    client = present(run.federation, reply.client)
    run.simulator.hold(client, _sent(run, client))
    after = _score_some(run).accuracy
    return {"id": client.id, "rank": reply.client.rank, "before": reply.before, "after": after}


def _score_some(run: Run) -> Score:
    some = range(min(run.recipe.evaluation.probe_examples, len(run.setup.test)))
    return score(run.setup.bench, run.setup.test, run.recipe.evaluation.batch, some)


def _sent(run: Run, client: Client) -> Download:
    sent = run.plan.algorithm.send(run.federation.state, client)
    return replace(sent, dense=run.federation.dense)


def _evaluate(run: Run) -> Score:
    """The score of the global model; of personal models, the mean over the round's clients."""
    if run.personal and run.latest:
        return average(list(_held_by(run, run.latest).values()))
    adapter = Adapter(run.plan.algorithm.read(run.federation.state), run.federation.dense)
    return score_adapter(run.setup.bench, adapter, run.setup.test, run.recipe.evaluation.batch)


def _spectrum(run: Run) -> dict[str, object]:
    return spectrum(run.plan.algorithm.read(run.federation.state))


def _held_by(run: Run, clients: Sequence[Client]) -> dict[Client, Score]:
    """The score of the model that each client would hold next; equal models are scored once."""
    scores: dict[str, Score] = {}
    held = {}
    for begun in clients:
        client = present(run.federation, begun)
        download = _sent(run, client)
        base = run.simulator.private.get(client.id, client.id if run.simulator.memory else "")
        key = base + fingerprint(pack(replace(download, fresh=None)))
        if key not in scores:
            run.simulator.hold(client, download)
            scores[key] = score(run.setup.bench, run.setup.test, run.recipe.evaluation.batch)
        held[client] = scores[key]
    return held
