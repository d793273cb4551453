"""One measurement's own process, so that peaks of memory do not mix: `python -m bench.child`.

It is given a function `start(args) -> Job` by name, and then runs the job as often as it is told.
Both sides speak lines of JSON; what libraries print goes to stderr.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from polyrank.client.room import forget_peak, peak, resident


class Job(NamedTuple):
    """What is measured again and again.

    Args:
        step: what is timed.
        check: what is told of a step's result; not timed.
        started: what is told of the start.
    """

    step: Callable[[], Any]
    check: Callable[[Any], dict[str, object]]
    started: Mapping[str, object] = MappingProxyType({})


def main() -> None:
    """Start the job that argv names, then do it at every line that comes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, name = sys.argv[1].partition(":")
    args = json.loads(sys.argv[2])
    torch.set_num_threads(args["threads"])

    def say(answer: dict[str, object]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    start: Callable[[dict[str, Any]], Job] = getattr(importlib.import_module(module), name)
    job = start(args)
    say({"start_s": time.time() - args["born"], "start_rss": resident(), **job.started})
    for _ in sys.stdin:
        forget_peak()
        before, at = resident(), time.perf_counter()
        result = job.step()
        took, most = time.perf_counter() - at, peak()
        say({"seconds": took, "peak": max(0, most - before), **job.check(result)})


if __name__ == "__main__":
    main()
