"""What was started ends, whatever it started itself; what was not started stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polyrank.federation.processes import Family, alive, end, family

from .conftest import Wait

DETACHED = "setsid sleep 300 & setsid sh -c 'trap \"\" TERM; sleep 301; sleep 302' & sleep 303"


def test_detached_grandchildren_end_too(tmp_path: Path, wait: Wait) -> None:
    mine = subprocess.Popen(["sleep", "300"])
    try:
        with family(tmp_path) as members:
            members.start("shell", ["sh", "-c", f"echo begun; {DETACHED}"], dict(os.environ))
            wait(lambda: len(alive(members)) >= 5, "five processes", 20)
            assert mine.pid not in alive(members)
        assert not alive(members)
        assert mine.poll() is None
        assert members.log("shell").read_text().startswith("begun\n")
    finally:
        mine.kill()
        mine.wait()


def interrupted(members: Family) -> None:
    members.start("sleep", ["sleep", "300"], dict(os.environ))
    raise KeyboardInterrupt


def test_they_end_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), family(tmp_path) as members:
        interrupted(members)
    assert members.ended() == {"sleep": -signal.SIGTERM}


LEADER = """
import os, sys, time
from pathlib import Path
from polyrank.federation.processes import family
with family(Path(sys.argv[1])) as members:
    members.start("shell", ["sh", "-c", sys.argv[2]], dict(os.environ))
    print(members.mark, flush=True)
    time.sleep(300)
"""


def test_they_end_when_who_started_them_is_killed(tmp_path: Path, wait: Wait) -> None:
    command = [sys.executable, "-c", LEADER, tmp_path, "setsid sleep 300 & sleep 301"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        members = Family(tmp_path, leader.stdout.readline().strip())
        try:
            wait(lambda: len(alive(members)) == 3, "three processes", 20)
            leader.kill()
            wait(lambda: not alive(members), "end of all", 30)
        finally:
            leader.kill()
            end(members)


def test_it_knows_who_ended_and_how(tmp_path: Path, wait: Wait) -> None:
    with family(tmp_path) as members:
        members.start("fails", ["sh", "-c", "exit 3"], dict(os.environ))
        members.start("stays", ["sleep", "300"], dict(os.environ))
        wait(members.ended, "end", 20)
        assert members.ended() == {"fails": 3}


def test_a_site_s_script_retries_with_back_off_and_stops_when_told(
    written: Path, tmp_path: Path, wait: Wait
) -> None:
    """With a SuperNode that always fails: the lease of its last life has not run out."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in {"flwr": "", "flower-supernode": "date +%s.%N >>tries; exit 49"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    site = written / "sites/site-1"
    around = {"PATH": "/usr/bin:/bin", "POLYRANK_BIN": str(programs)}
    with family(tmp_path / "logs") as members:
        script = members.start("site", [site / "start.sh"], around)
        tries = site / "tries"
        wait(lambda: tries.exists() and len(tries.read_text().split()) == 3, "third try", 30)
        script.send_signal(signal.SIGTERM)
        assert script.wait(timeout=5) == 0
    first, second, third = map(float, tries.read_text().split())
    assert second - first > 0.9
    assert third - second > 1.9
    assert "ended with code 49; again in 2 s" in members.log("site").read_text()
    assert (site / "state/node.toml").read_text().startswith(f'home = "{site}/state"\n')
