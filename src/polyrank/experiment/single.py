"""One run: from a recipe to its folder, and on from wherever it stopped.

After every round its record and then the checkpoint are on disk, each written in one step; a run
that is killed at any moment goes on from the last checkpoint to the same bits.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from polyrank import algorithms, files
from polyrank.client import model
from polyrank.client.fit import Share
from polyrank.client.score import Score, average, score
from polyrank.engine import store
from polyrank.engine.simulate import Simulator
from polyrank.errors import StorageError
from polyrank.evaluate import score_adapter, spectrum
from polyrank.experiment import facts
from polyrank.experiment.events import Began, Ended, Replied, RoundDone, Watch, ignore
from polyrank.experiment.folder import Folder
from polyrank.experiment.interrupt import uninterrupted
from polyrank.experiment.ready import planned
from polyrank.experiment.setup import Setup, prepare
from polyrank.lora import peft
from polyrank.lora.algebra import truncate
from polyrank.lora.factor import Adapter
from polyrank.messages import Client, Download
from polyrank.recipe import Recipe
from polyrank.recipe.load import digest
from polyrank.report import page, records
from polyrank.seeds import fingerprint
from polyrank.server import checkpoint
from polyrank.server.checkpoint import Checkpoint
from polyrank.server.loop import Federation, Plan, Reply, Round, participants, present, train
from polyrank.wire.pack import pack


@dataclass(slots=True)
class Run:
    """One run under way."""

    recipe: Recipe
    label: str
    folder: Folder
    setup: Setup
    plan: Plan
    simulator: Simulator
    federation: Federation
    idle: dict[str, str]
    latest: list[Client] = field(default_factory=list)  # whose uploads counted in the last round

    @property
    def personal(self) -> bool:
        return algorithms.about(self.recipe.algorithm.name).personal


def go(
    recipe: Recipe, label: str, folder: Folder, watch: Watch = ignore, setup: Setup | None = None
) -> None:
    """Do what is left of a run in its folder, from nothing or from its checkpoint.

    Raises:
        PolyrankError: whatever is wrong with recipe, data, model or folder; finished rounds stay.
    """
    run = _prepared(recipe, label, folder, setup or prepare(recipe))
    run.simulator.probe = partial(_probe, run)
    _restore(run)
    watch(Began(label, folder.path, run.federation.round, recipe.rounds))
    if run.federation.round == 0:
        _first_records(run)
    begun = time.monotonic()
    rounds = train(
        run.plan, run.simulator.exchange, run.federation, lambda *told: watch(Replied(*told))
    )
    for done in rounds:
        run.federation, run.latest = done.federation, [r.client for r in done.replies]
        record = _measured(run, done, time.monotonic() - begun)
        _commit(run, record)
        watch(RoundDone(record))
        begun = time.monotonic()
    _finish(run)
    watch(Ended(folder.path))


def _prepared(recipe: Recipe, label: str, folder: Folder, setup: Setup) -> Run:
    plan, idle = planned(recipe, setup)
    kept = setup.validation
    shares = {id: Share(setup.train, part, kept[id]) for id, part in setup.parts.items()}
    simulator = Simulator(setup.bench, shares, recipe, folder.clients)
    state = plan.algorithm.init(plan.template, recipe.seed)
    federation = Federation(state, setup.dense)
    return Run(recipe, label, folder, setup, plan, simulator, federation, idle)


def _restore(run: Run) -> None:
    """Put the run where its checkpoint is; without one, at its beginning."""
    files.sweep(run.folder.path)
    files.sweep(run.folder.clients)
    if not run.folder.checkpoint.exists():
        run.folder.records.unlink(missing_ok=True)
        return
    saved = checkpoint.load(run.folder.checkpoint, type(run.federation.state))
    if saved.recipe != digest(run.recipe):
        raise StorageError(
            f"{run.folder.checkpoint} was made by another recipe than {run.folder.recipe}; "
            "restore that recipe, or start a new run"
        )
    _refuse_other_data(run)
    run.federation = saved.federation
    run.simulator.private.update(saved.private)
    records.rewind(run.folder.records, run.federation.round)


def _refuse_other_data(run: Run) -> None:
    """The rounds to come must see the data that those before them saw."""
    before, now = records.load(run.folder.records).run["data"], dict(run.setup.corpus.source)
    differing = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    if differing:
        raise StorageError(
            f"the data has changed since {run.folder.path} began ({', '.join(differing)}); "
            "restore it, or start a new run"
        )


def _first_records(run: Run) -> None:
    """What was there before any training."""
    begun = time.monotonic()
    told = facts.run_record(run.recipe, run.label, run.setup, list(run.plan.clients), run.idle)
    score, shape = _evaluate(run), _spectrum(run)
    records.append(run.folder.records, told)
    seconds = time.monotonic() - begun
    records.append(run.folder.records, facts.round_record(0, None, score, shape, seconds))


def _measured(run: Run, done: Round, seconds: float) -> dict[str, object]:
    number, every = done.federation.round, run.recipe.evaluation.every
    due = number % every == 0 or number == run.recipe.rounds
    score = _evaluate(run) if due else None
    probes = [_after(run, r) for r in done.replies if r.before is not None]
    return facts.round_record(number, done, score, _spectrum(run), seconds, probes)


def _commit(run: Run, record: dict[str, object]) -> None:
    """Make a round final: first its record, which is worth nothing without the checkpoint."""
    private = dict(run.simulator.private)
    with uninterrupted():
        records.append(run.folder.records, record)
        saved = Checkpoint(run.federation, digest(run.recipe), private)
        checkpoint.save(run.folder.checkpoint, saved)
        store.keep_only(run.folder.clients, private.values())


def _finish(run: Run) -> None:
    """Write what people came for: the adapter, the last record and the report."""
    past = records.load(run.folder.records)
    last = past.rounds[-1]["test"]
    if past.final is None and last is not None:
        held = _held_by(run, run.plan.clients)
        if run.personal:
            mean = average(list(held.values()))
            last = {"loss": mean.loss, "accuracy": mean.accuracy}
        final = facts.final_record(last, held, run.setup, past.seconds)
        with uninterrupted():
            records.append(run.folder.records, final)
    bench = run.setup.bench
    head = {**model.head(bench), **run.federation.dense}
    # A federation in which no update ever counted has no direction yet: one slot of zeros.
    read = run.plan.algorithm.read(run.federation.state)
    factors = {n: f if f.rank else truncate(run.plan.template[n], 1) for n, f in read.items()}
    adapter = Adapter(factors, head)
    with uninterrupted():
        peft.save(run.folder.adapter, adapter, bench.base, model.stored_transposed(bench))
        page.write(run.folder.report, [records.load(run.folder.records)])


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
        base = run.simulator.private.get(client.id, "")
        key = base + fingerprint(pack(replace(download, fresh=None)))
        if key not in scores:
            run.simulator.hold(client, download)
            scores[key] = score(run.setup.bench, run.setup.test, run.recipe.evaluation.batch)
        held[client] = scores[key]
    return held
