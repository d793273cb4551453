"""One run: from a recipe to its folder, and on from wherever it stopped.

After every round its record and then the checkpoint are on disk, each written in one step; a run
that is killed at any moment goes on from the last checkpoint to the same bits.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from polyrank import files
from polyrank.client import model
from polyrank.client.precision import slow
from polyrank.engine import store
from polyrank.errors import StorageError
from polyrank.experiment import running
from polyrank.experiment.events import Began, Ended, Replied, RoundDone, Warned, Watch, ignore
from polyrank.experiment.folder import Folder
from polyrank.experiment.interrupt import uninterrupted
from polyrank.experiment.run import Run
from polyrank.experiment.setup import Setup, prepare
from polyrank.lora import peft
from polyrank.recipe import Recipe
from polyrank.recipe.load import digest
from polyrank.report import page, records
from polyrank.server import checkpoint
from polyrank.server.checkpoint import Checkpoint
from polyrank.server.loop import train
from polyrank.track.following import Followers, available, followed
from polyrank.track.tracker import Subject

# A run before its first round, from recipe, setup and the folder for what clients keep.
Begin = Callable[[Recipe, Setup, Path], Run]


def go(
    recipe: Recipe,
    label: str,
    folder: Folder,
    watch: Watch = ignore,
    setup: Setup | None = None,
    begin: Begin = running.begin,
) -> None:
    """Do what is left of a run in its folder, from nothing or from its checkpoint.

    Args:
        recipe: what to do.
        label: what the run is called in tables.
        folder: where it lies.
        watch: called with every event.
        setup: model and data, where they are prepared already.
        begin: brings its clients together: those of a simulation, or over a network.

    Raises:
        PolyrankError: whatever is wrong with recipe, data, model or folder; finished rounds stay.
    """
    available(recipe.track)
    run = begin(recipe, setup or prepare(recipe), folder.clients)
    _restore(run, folder)
    watch(Began(label, folder.path, run.federation.round, recipe.rounds))
    for line in (*run.setup.notes, slow(run.setup.bench.net)):
        if line:
            watch(Warned(line))
    if run.federation.round == 0:
        begun = time.monotonic()
        records.append(folder.records, running.first(run, label))
        records.append(folder.records, running.untrained(run, time.monotonic() - begun))
    with _followed(run, label, folder, watch) as followers:
        begun = time.monotonic()
        rounds = train(run.plan, run.exchange, run.federation, lambda *told: watch(Replied(*told)))
        for done in rounds:
            run.accept(done)
            record = running.measured(run, done, time.monotonic() - begun)
            _commit(run, folder, record)
            followers.hear(record)
            watch(RoundDone(record))
            begun = time.monotonic()
        _conclude(run, folder)
        followers.end(records.load(folder.records).final)
        _finish(run, folder)
        watch(Ended(folder.path))


def _restore(run: Run, folder: Folder) -> None:
    """Put the run where its checkpoint is; without one, at its beginning."""
    files.sweep(folder.path)
    files.sweep(folder.clients)
    if not folder.checkpoint.exists():
        folder.records.unlink(missing_ok=True)
        return
    saved = checkpoint.load(folder.checkpoint, type(run.federation.state))
    if saved.recipe != digest(run.recipe):
        raise StorageError(
            f"{folder.checkpoint} was made by another recipe than {folder.recipe}; "
            "restore that recipe, or start a new run"
        )
    _refuse_other_data(run, folder)
    run.federation = saved.federation
    if run.simulator is not None:
        run.simulator.private.names.update(saved.private)
        run.simulator.owed.names.update(saved.owed)
        run.simulator.group = saved.group or run.simulator.group
    records.rewind(folder.records, run.federation.round)


def _refuse_other_data(run: Run, folder: Folder) -> None:
    """The rounds to come must see the data that those before them saw."""
    recorded = records.load(folder.records).run
    before, now = {**recorded["data"]}, dict(run.setup.source)
    if begun := run.setup.bench.initial.facts:
        before["init_from"] = recorded.get("init_from", {}).get("sha256")
        now["init_from"] = begun["sha256"]
    differing = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
    if differing:
        raise StorageError(
            f"the data has changed since {folder.path} began ({', '.join(differing)}); "
            "restore it, or start a new run"
        )


def _commit(run: Run, folder: Folder, record: dict[str, object]) -> None:
    """Make a round final: first its record, which is worth nothing without the checkpoint."""
    here = run.simulator
    private, owed = (dict(here.private.names), dict(here.owed.names)) if here else ({}, {})
    with uninterrupted():
        records.append(folder.records, record)
        group = here.group if here else None
        saved = Checkpoint(run.federation, digest(run.recipe), private, owed, group)
        checkpoint.save(folder.checkpoint, saved)
        store.keep_only(folder.clients, {*private.values(), *owed.values()})


def _followed(
    run: Run, label: str, folder: Folder, watch: Watch
) -> AbstractContextManager[Followers]:
    recipe = run.recipe
    subject = Subject(
        f"{recipe.name} {label} seed {recipe.seed}", recipe.name, folder.path,
        recipe.model_dump(mode="json"), run.setup.bench.objective.metric,
    )  # fmt: skip
    past = records.load(folder.records)
    return followed(recipe.track, subject, past, lambda line: watch(Warned(line)))


def _conclude(run: Run, folder: Folder) -> None:
    """Write the last record."""
    past = records.load(folder.records)
    last = past.rounds[-1]["test"]
    # Of personal models elsewhere nothing is measured here, at the end neither.
    if past.final is None and (last is not None or run.simulator is None):
        record = running.final(run, last, past.seconds, run.plan.clients)
        with uninterrupted():
            records.append(folder.records, record)


def _finish(run: Run, folder: Folder) -> None:
    """Write what people came for: the adapter and the report."""
    past = records.load(folder.records)
    trained = {c["id"]: c["examples"] for r in past.rounds for c in r["clients"]}
    examples = {"examples": sum(trained.values())}
    bench = run.setup.bench
    with uninterrupted():
        transposed = model.stored_transposed(bench)
        peft.save(
            folder.adapter, running.result(run), bench.base, transposed, examples,
            bench.objective.kind,
        )  # fmt: skip
        page.write(folder.report, [past])
