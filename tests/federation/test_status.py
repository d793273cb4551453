"""How a federation is told to be doing, from files of a run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polyrank.cli.sites import pictured
from polyrank.errors import FederationError, StorageError
from polyrank.federation.status import run_folder, view
from polyrank.flower import status
from polyrank.flower.alone import alone
from polyrank.report import records

WRITTEN = 1_800_000_000.0


def bytes_of(total: int) -> dict[str, int]:
    return {"total": total, "factors": total, "dense": 0}


def trained(id: str, rank: int, up: int) -> dict[str, Any]:
    return {
        "id": id, "rank": rank, "examples": 9, "loss": 1.0, "seconds": 1.0,
        "up": bytes_of(up), "down": bytes_of(2 * up),
    }  # fmt: skip


def round_(number: int, left_out: bool, seconds: float) -> dict[str, Any]:
    late = {"id": "1", "reason": "no answer", "up": bytes_of(0), "down": bytes_of(4_000_000)}
    both = [trained("0", 2, 1_000_000), trained("1", 8, 2_000_000)]
    return {
        "kind": "round", "round": number, "test": {"loss": 1.0, "accuracy": 0.25},
        "clients": both[:1] if left_out else both, "left_out": [late] if left_out else [],
        "seconds": seconds,
    }  # fmt: skip


FIRST = {
    "kind": "run", "name": "r", "label": "r", "seed": 0, "recipe": {"rounds": 10}, "versions": {},
    "machine": {}, "data": {}, "classes": [], "clients": [],
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder after 2 of 10 rounds; site-2 was left out of the second, site-3 never asked."""
    folder = tmp_path / "superlink/run"
    folder.mkdir(parents=True)
    for record in (FIRST, round_(1, False, 20.0), round_(2, True, 40.0)):
        records.append(folder / records.FILE, record)
    os.utime(folder / records.FILE, (WRITTEN, WRITTEN))
    sites: dict[str, dict[str, Any]] = {
        "0": {"site": "site-1", "rank": 2, "examples": 136, "state": "answered",
              "last_seen": WRITTEN - 5},
        "1": {"site": "site-2", "rank": 8, "examples": 1630, "state": "left out",
              "reason": "no answer", "last_seen": WRITTEN - 65},
        "2": {"site": None, "rank": None, "examples": None, "state": "away", "last_seen": None},
    }  # fmt: skip
    named = {client: {"client": client, **told} for client, told in sites.items()}
    status.write(folder, named, round=2, rounds=10, started=WRITTEN - 60, state="running")
    return folder


def text(folder: Path, now: float) -> str:
    console = Console(width=300, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(pictured(view(folder), now))
        return console.export_text()


@pytest.fixture
def running(run: Path) -> Iterator[Path]:
    """The same, while its process is at work."""
    with alone(run / status.LOCK, 0.0) as mine:
        assert mine
        yield run


def test_it_sums_traffic_and_extrapolates_rounds(running: Path) -> None:
    seen = view(running)
    assert (seen.round, seen.rounds, seen.test["accuracy"], seen.state) == (2, 10, 0.25, "running")
    assert seen.end == WRITTEN + 8 * 30.0
    assert [(s.up, s.down) for s in seen.sites] == [(2.0, 4.0), (2.0, 8.0), (0.0, 0.0)]
    assert not seen.complete


def squeezed(line: str) -> str:
    return " ".join(line.split())


def test_a_run_whose_process_is_gone_is_stopped(run: Path) -> None:
    with alone(run / status.LOCK, 0.0):
        assert view(run).state == "running"
    assert view(run).state == "stopped, start it again to go on"
    assert view(run).end is None


def test_it_is_a_line_for_each_site(running: Path) -> None:
    heading, *lines = map(squeezed, text(running, WRITTEN + 10).splitlines())
    assert "running, round 2 of 10, accuracy 25.0 %, end expected at " in heading
    assert "(in 3 min 50 s)" in heading
    assert lines == [
        "site client rank examples last seen MB up MB down state",
        "site-1 0 2 136 15 s ago 2 4 answered",
        "site-2 1 8 1,630 1 min 15 s ago 2 8 left out: no answer",
        "– 2 ? ? – 0 0 away",
    ]
    assert "end expected any moment" in text(running, WRITTEN + 1000)


def test_a_run_that_has_its_report_is_complete(run: Path) -> None:
    final = {"kind": "final", "test": None, "clients": [], "seconds": 60.0}
    records.append(run / records.FILE, final)
    assert not view(run).complete
    (run / "report.html").touch()
    assert view(run).complete
    assert view(run).end is None
    assert "complete, round 2 of 10" in text(run, WRITTEN)


def test_before_the_first_round(run: Path) -> None:
    (run / records.FILE).unlink()
    seen = view(run)
    assert (seen.round, seen.rounds, seen.end, len(seen.sites)) == (2, 10, None, 3)


def test_sites_that_nobody_told_of(run: Path) -> None:
    (run / status.FILE).unlink()
    assert view(run).state == "no word of the sites"
    assert view(run).round == 2


def test_the_run_is_found_from_every_folder_of_a_federation(run: Path, tmp_path: Path) -> None:
    assert run_folder(run) == run_folder(tmp_path / "superlink") == run_folder(tmp_path) == run
    with pytest.raises(FederationError, match="does not exist; give the run folder"):
        run_folder(tmp_path / "none")
    (tmp_path / "new").mkdir()
    with pytest.raises(FederationError, match="has no run yet"):
        run_folder(tmp_path / "new")


def test_a_damaged_file_is_one_line(run: Path) -> None:
    (run / status.FILE).write_text("{")
    with pytest.raises(StorageError, match=r"federation\.json cannot be read"):
        view(run)
    (run / status.FILE).write_text(json.dumps([]))
    with pytest.raises(StorageError, match="is no status of a federation"):
        view(run)
