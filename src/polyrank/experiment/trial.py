"""A run in memory: no folder, no checkpoint, no report; for experiments of thousands of runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from polyrank.engine import store
from polyrank.experiment import running
from polyrank.experiment.run import Run
from polyrank.experiment.setup import Setup
from polyrank.recipe import Recipe
from polyrank.report.format import RECORD
from polyrank.report.records import RunRecords, gathered
from polyrank.server.loop import train

IN_MEMORY = 200  # clients whose private state need not be on disk


def trial(recipe: Recipe, label: str, setup: Setup) -> RunRecords:
    """The records that `polyrank run` would write, but for the model that each client ends with
    (of personal algorithms only) and spectra (after evaluated rounds only).

    Args:
        recipe: what to do.
        label: what the run is called in tables.
        setup: model and data, prepared for it.

    Raises:
        PolyrankError: whatever is wrong with the recipe.
    """
    with _private(setup) as private:
        return _done(running.begin(recipe, setup, private), label)


def _done(run: Run, label: str) -> RunRecords:
    told, begun = [running.first(run, label), running.untrained(run, 0.0)], time.monotonic()
    started = begun
    for done in train(run.plan, run.exchange, run.federation):
        run.accept(done)
        told.append(running.measured(run, done, time.monotonic() - started, always=False))
        here = run.simulator
        if here is not None and here.private.folder is not None:
            names = {*here.private.names.values(), *here.owed.names.values()}
            store.keep_only(here.private.folder, names)
        started = time.monotonic()
    so_far = gathered([RECORD.validate_python(r) for r in told], label)
    if so_far.test is None:
        return so_far
    clients = run.plan.clients if run.personal else ()
    last = running.final(run, so_far.test, time.monotonic() - begun, clients)
    return gathered([RECORD.validate_python(r) for r in (*told, last)], label)


@contextmanager
def _private(setup: Setup) -> Iterator[Path | None]:
    """A folder that is gone afterwards, for what many clients keep; None for few: memory."""
    if len(setup.parts) <= IN_MEMORY:
        yield None
        return
    with TemporaryDirectory(prefix="polyrank-") as folder:
        yield Path(folder)
