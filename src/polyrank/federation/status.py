"""How a federation is doing, from its run folder alone: nothing here asks anybody."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from polyrank.errors import FederationError
from polyrank.experiment.folder import Folder
from polyrank.flower import status
from polyrank.report import records
from polyrank.report.format import Measured
from polyrank.report.records import MB, WAYS, RunRecords, Way
from polyrank.report.words import NOTHING

COMPLETE, STOPPED = "complete", "stopped, start it again to go on"
_RECENT = 5  # rounds whose mean duration says how long the rest will take
_INSIDE = (Path(), Path("run"), Path("superlink/run"))


@dataclass(frozen=True, slots=True)
class Site:
    """One site; `seen` is when it was last heard of (seconds since 1970), `up`, `down` are MB."""

    name: str
    client: str
    rank: int | None
    examples: int | None
    state: str
    seen: float | None
    up: float
    down: float


@dataclass(frozen=True, slots=True)
class View:
    """A federation at one moment; `end` is when it is expected to end (seconds since 1970)."""

    folder: Path
    state: str
    round: int
    rounds: int | None
    test: Measured | None
    sites: tuple[Site, ...]
    end: float | None

    @property
    def complete(self) -> bool:
        return self.state == COMPLETE


def run_folder(path: Path) -> Path:
    """The run folder of a federation: the path itself, or its place in what `init` wrote.

    Raises:
        FederationError: there is no run yet.
    """
    for inside in _INSIDE:
        folder = path / inside
        if (folder / status.FILE).exists() or (folder / records.FILE).exists():
            return folder
    what = "has no run yet" if path.exists() else "does not exist"
    raise FederationError(f"{path} {what}; give the run folder on the server, once a run is on")


def view(folder: Path) -> View:
    """What the run folder says.

    Raises:
        StorageError: something in it is damaged.
    """
    told = status.read(folder)
    kept = Folder(folder)
    run = records.load(kept.records) if kept.records.exists() else None
    complete = run is not None and run.complete and kept.report.exists()
    state = _state(folder, told, complete)
    moves = run is not None and state not in (COMPLETE, STOPPED)
    end = _end(run, kept.records.stat().st_mtime) if run and moves else None
    up, down = (_megabytes(run, way) for way in WAYS)
    return View(
        folder,
        state,
        run.done if run else int(told.get("round", 0)),
        run.planned if run else told.get("rounds"),
        run.test if run else None,
        tuple(_site(each, up, down) for each in told.get("sites", [])),
        end,
    )


def _state(folder: Path, told: Mapping[str, Any], complete: bool) -> str:
    """Of the run: what it last wrote, unless the process that wrote it is gone."""
    if complete:
        return COMPLETE
    state = str(told.get("state", "no word of the sites"))
    at_work = state in (status.WAITING, status.RUNNING)
    return STOPPED if at_work and not status.alive(folder) else state


def _site(told: dict[str, Any], up: Mapping[str, float], down: Mapping[str, float]) -> Site:
    client, reason = str(told["client"]), told.get("reason")
    return Site(
        told.get("site") or NOTHING,
        client,
        told.get("rank"),
        told.get("examples"),
        f"{told['state']}: {reason}" if reason else str(told["state"]),
        told.get("last_seen"),
        up.get(client, 0.0),
        down.get(client, 0.0),
    )


def _megabytes(run: RunRecords | None, way: Way) -> Mapping[str, float]:
    """By client id, what all its messages so far took."""
    total: defaultdict[str, float] = defaultdict(float)
    for record in run.rounds if run else ():
        for client in (*record["clients"], *record.get("left_out", [])):
            total[client["id"]] += client[way]["total"] / MB
    return total


def _end(run: RunRecords, written: float) -> float | None:
    """When the last round will be over, if all take as long as the latest ones."""
    taken = [r["seconds"] for r in run.rounds if r["round"] > 0][-_RECENT:]
    if not taken or run.planned is None:
        return None
    return written + (run.planned - run.done) * fmean(taken)
