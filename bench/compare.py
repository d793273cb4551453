"""Ratios of an earlier revision and of now, side by side (`make bench-compare BASE=rev`)."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import ROOT

RESULTS = "bench/results/latest.json"
LEAST = 0.05  # a change below this, or below both runs' spread, is none
NOISE = 1e-4  # and one below this in absolute terms


class Change(NamedTuple):
    """One ratio then and now; `worse` beyond the spread of both runs."""

    name: str
    then: float | None
    now: float | None
    spread: float
    worse: bool


class NoBase(Exception):
    """There is nothing to compare with; the message says why and what to do."""


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Every ratio of either run. One that is gone is not worse: a peer may be missing here."""
    found = []
    for name in {**then["ratios"], **now["ratios"]}:
        before, after = then["ratios"].get(name), now["ratios"].get(name)
        moved = max(LEAST, sum(run["spread"].get(name, LEAST) for run in (then, now)))
        worse = before is not None and after is not None and _worse(name, before, after, moved)
        found.append(Change(name, before, after, moved, worse))
    return found


def committed(revision: str) -> dict[str, Any]:
    """What that revision's own run wrote.

    Raises:
        NoBase: no such revision, or it has no results.
    """
    shown = _git("show", f"{revision}:{RESULTS}")
    if shown.returncode:
        raise NoBase(
            f"{revision} has no {RESULTS} ({shown.stderr.strip().splitlines()[-1]}); "
            "give a revision that has, or measure it here and now with MEASURE=1"
        )
    return dict(json.loads(shown.stdout))


def measured(revision: str | None, size: str, threads: int, names: str) -> dict[str, Any]:
    """What a revision (None is the checkout as it is) does on this machine now.

    Raises:
        NoBase: no such revision, or its benchmark does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree, into = ROOT if revision is None else Path(folder) / "tree", Path(folder) / "now.json"
        if revision is not None:
            added = _git("worktree", "add", "--detach", str(tree), revision)
            if added.returncode:
                raise NoBase(added.stderr.strip().splitlines()[-1])
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench", "run", "--size", size, "--threads", str(threads),
                 "--only", names, "--into", str(into), "--page", os.devnull],
                cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "src")},
            )  # fmt: skip
        finally:
            if revision is not None:
                _git("worktree", "remove", "--force", str(tree))
        if done.returncode:
            raise NoBase(f"the benchmark of {revision or 'this checkout'} ended with an error")
        return dict(json.loads(into.read_text()))


def latest() -> dict[str, Any]:
    """What the last run in this checkout wrote.

    Raises:
        NoBase: there was none.
    """
    path = ROOT / RESULTS
    if not path.exists():
        raise NoBase(f"there is no {RESULTS}; run `make bench` or `make bench-quick` first")
    return dict(json.loads(path.read_text()))


def _worse(name: str, then: float, now: float, moved: float) -> bool:
    if "_over_" in name:  # less is better
        return now > then * (1 + moved) + NOISE
    return now * (1 + moved) < then


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
