"""A run under way in memory, from its beginning to its last record."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from weakref import proxy

from polyrank.client import placing
from polyrank.client.group import Step, group_size
from polyrank.client.initial import both
from polyrank.client.score import average
from polyrank.engine.simulate import Simulator
from polyrank.engine.store import Shelf
from polyrank.evaluate import spectrum
from polyrank.experiment import facts, measuring
from polyrank.experiment.generating import generated
from polyrank.experiment.ready import planned
from polyrank.experiment.run import Run
from polyrank.experiment.setup import Setup, moments, text_length
from polyrank.lora.algebra import truncate
from polyrank.lora.factor import Adapter
from polyrank.messages import Client
from polyrank.recipe import Recipe
from polyrank.report.format import Measured
from polyrank.server.loop import Federation, Plan, Round


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
    kept_by = Shelf(private), Shelf(private)
    group = _group(recipe, setup, plan)
    simulator = Simulator(setup.bench, setup.share, recipe, *kept_by, group)
    federation = Federation(plan.algorithm.init(plan.template, recipe.seed), setup.dense)
    run = Run(recipe, setup, plan, simulator.exchange, federation, idle, simulator)
    # By a proxy: in a cycle the tensors of a finished run would wait for the garbage collector.
    simulator.probe = partial(measuring.probe, proxy(run))
    return run


def _group(recipe: Recipe, setup: Setup, plan: Plan) -> int:
    """At most how many clients train at once."""
    step = Step(recipe.local.batch, text_length(recipe), moments(recipe))
    # Those whose rank may rise during the run count with the highest.
    top = next(iter(plan.template.values())).rank
    ranks = [top if plan.warmup else c.rank for c in plan.clients]
    return group_size(setup.bench, setup.train, recipe.engine.group, step, ranks)


def first(run: Run, label: str) -> dict[str, object]:
    """The record of what does not change over the rounds."""
    return facts.run_record(run.recipe, label, run.setup, list(run.plan.clients), run.idle)


def untrained(run: Run, seconds: float) -> dict[str, object]:
    """The record of round 0: the model before any training."""
    test = facts.measured(measuring.evaluate(run), run.setup)
    record = facts.round_record(0, None, test, _spectrum(run), seconds)
    return record | _written(run)


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
    test = facts.measured(measuring.evaluate(run), run.setup) if due else None
    probes = measuring.after(run, [r for r in done.replies if r.before is not None])
    shape = _spectrum(run) if due or always else None
    return facts.round_record(number, done, test, shape, seconds, probes)


def final(
    run: Run, last: Measured | None, seconds: float, clients: Sequence[Client]
) -> dict[str, object]:
    """The last record: what these clients hold (or some, drawn by seed, of many), and the global
    model (or the mean of theirs)."""
    held = {} if run.simulator is None else measuring.held_by(run, run.simulator, clients)
    if run.personal and held:
        last = facts.measured(average(list(held.values())), run.setup)
    return facts.final_record(last, held, len(clients), run.setup, seconds) | _written(run)


def _written(run: Run) -> dict[str, object]:
    """What the global model writes, as a part of a record; nothing where it is not asked to."""
    found = generated(run)
    return {} if found is None else {"generated": found}


def result(run: Run) -> Adapter:
    """What people came for: all that makes the base model the one that was trained."""
    head = {**placing.head(run.setup.bench), **run.federation.dense}
    # A federation in which no update ever counted has no direction yet: one slot of zeros.
    read = run.plan.algorithm.read(run.federation.state)
    factors = {n: f if f.rank else truncate(run.plan.template[n], 1) for n, f in read.items()}
    return both(run.setup.bench.initial, Adapter(factors, head))


def _spectrum(run: Run) -> dict[str, object]:
    return spectrum(run.plan.algorithm.read(run.federation.state))
