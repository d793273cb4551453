"""Timing: each method in a process of its own, all of them in alternation; medians and spread."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.machine import ROOT

Answer = dict[str, Any]


class Failed(Exception):
    """A process ended before it answered; the last line that it wrote says why."""


class Child:
    """A process that does one job whenever it is told (`bench.child`).

    Args:
        target: "module:function" that gives the job.
        args: for that function, as JSON; "threads" among them.
    """

    def __init__(self, target: str, args: Mapping[str, object]) -> None:
        threads = str(args["threads"])
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.child", target,
             json.dumps({**args, "born": time.time()})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            cwd=ROOT, env={**os.environ, **QUIET, "OMP_NUM_THREADS": threads},
        )  # fmt: skip

    def answer(self) -> Answer:
        """What it says next.

        Raises:
            Failed: it has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            words = self._said.read().decode(errors="replace").strip().splitlines()
            raise Failed(words[-1][:200] if words else f"ended with {self._process.wait()}")
        return dict(json.loads(line))

    def go(self) -> Answer:
        """Do the job once more: seconds, peak (bytes above those before), and its own words."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` tells why
        return self.answer()

    def close(self) -> None:
        """End the process: by the end of its input, or else by force."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=20)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        self._said.close()


QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def children(jobs: Mapping[str, tuple[str, Mapping[str, object]]]) -> Iterator[dict[str, Child]]:
    """A process for each job, all started at once."""
    with ExitStack() as stack:
        found = {}
        for name, (target, args) in jobs.items():
            found[name] = Child(target, args)
            stack.callback(found[name].close)
        yield found


def started(child: Child) -> Answer:
    """What a process says of its start, or {"failed": why}."""
    try:
        return child.answer()
    except Failed as error:
        return {"failed": str(error)}


def alternate(
    some: Mapping[str, Child], repeats: Callable[[str, float], int]
) -> dict[str, list[Answer]]:
    """Every job once, then again and again, one after another in turn.

    Args:
        some: processes that have started.
        repeats: from a job's name and the seconds of its first time, how often it is done again.

    Returns:
        By name its answers; one with "failed" is the last of its job.
    """
    told: dict[str, list[Answer]] = {name: [_went(child)] for name, child in some.items()}
    more = {n: repeats(n, a[0]["seconds"]) for n, a in told.items() if "failed" not in a[0]}
    for turn in range(max(more.values(), default=0)):
        for name, times in more.items():
            if turn < times and "failed" not in told[name][-1]:
                told[name].append(_went(some[name]))
    return told


def settled(answers: Sequence[Answer]) -> list[float]:
    """Seconds of a job that was done several times, without the first: it also warms up."""
    seconds = [a["seconds"] for a in answers if "failed" not in a]
    return seconds[1:] or seconds


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """How far the values lie apart, relative to their median: (max − min) / median."""
    return (max(values) - min(values)) / median(values) if len(values) > 1 else 0.0


def _went(child: Child) -> Answer:
    try:
        return child.go()
    except Failed as error:
        return {"failed": str(error)}
