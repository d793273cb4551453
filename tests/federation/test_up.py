"""`polyrank federation up`: the README's second example, whole and interrupted."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polyrank.federation.status import view
from polyrank.report import records

from .conftest import Wait

pytestmark = pytest.mark.slow
UP = [sys.executable, "-m", "polyrank", "federation", "up"]


def left(folder: Path) -> list[str]:
    """Processes that have to do with a folder."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            told = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in told:
            found.append(place.name)
    return found


def test_it_runs_the_demo_on_three_sites_and_ends(tmp_path: Path) -> None:
    folder = tmp_path / "fed"
    done = subprocess.run(
        [*UP, folder, "rounds=2", "--local", "3"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not left(folder)
    run = folder / "superlink/run"
    assert f"report:  {run / 'report.html'}" in done.stdout
    assert (run / "adapter/adapter_model.safetensors").exists()
    assert len(re.findall(r"^  round +[012] ", done.stdout, re.MULTILINE)) == 3
    kept, seen = records.load(run), view(run)
    assert kept.complete
    assert [sorted(c["rank"] for c in r["clients"]) for r in kept.rounds[1:]] == [[2, 8, 32]] * 2
    assert seen.complete
    assert [site.name for site in seen.sites] == ["site-1", "site-2", "site-3"]
    assert all(site.up > 0 and site.down > 0 for site in seen.sites)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_leaves_nothing_behind(
    tmp_path: Path, wait: Wait, number: signal.Signals
) -> None:
    folder = tmp_path / "fed"
    running = subprocess.Popen(
        [*UP, folder, "--local", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = folder / "logs/site-2.log"
    try:
        wait(lambda: log.exists() and "SuperNode ID" in log.read_text(), "second node", 120)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert said == "polyrank: stopped\n"
    assert not left(folder)


def test_a_run_that_fails_is_told_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "fed"
    done = subprocess.run(
        [*UP, folder, "model=/no/such/model", "--local", "1"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("polyrank: run ended before the run was complete; the last")
    assert "/no/such/model" in done.stderr
    assert not left(folder)
