"""One way to aggregate, or the reference, in a process of its own (`bench.child`)."""

from typing import Any

import torch

from bench import uploads
from bench.child import Job
from bench.methods import METHODS
from bench.peers import Upload


def start(args: dict[str, Any]) -> Job:
    """Aggregate by args["method"] what lies in args["file"]; the error is told once."""
    given, weights = uploads.load(args["file"])
    run, rank = METHODS[args["method"]].run, args["rank"]
    known = uploads.Best(args["square"], args["tail"])
    told: dict[str, object] = {}

    def check(found: Upload) -> dict[str, object]:
        if not told:
            told["error"] = uploads.excess(given, weights, found, known)
            told["rank"] = len(found[1])
        return told

    warm_threads()
    return Job(lambda: run(given, weights, rank), check)


def reference(args: dict[str, Any]) -> Job:
    """‖Δ‖² and the tail's, in float64."""
    given, weights = uploads.load(args["file"])
    return Job(
        lambda: uploads.best(given, weights, args["rank"]),
        lambda found: {"square": found.square, "tail": found.tail},
    )


def warm_threads() -> None:
    """Start the pool of threads, which the first product of a process would otherwise pay for."""
    some = torch.randn(512, 512)
    for _ in range(3):
        some @ some
