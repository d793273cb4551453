"""Records: what a run, a round and its end look like as JSON."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from polyrank.client.model import template
from polyrank.client.score import Score
from polyrank.experiment.setup import Setup
from polyrank.lora.factor import parameters
from polyrank.messages import Client
from polyrank.recipe import Recipe
from polyrank.report.format import Measured
from polyrank.report.words import perplexity
from polyrank.server.loop import Reply, Round
from polyrank.version import __version__

PACKAGES = ("torch", "transformers", "peft", "safetensors", "numpy")


def run_record(
    recipe: Recipe, label: str, setup: Setup, clients: list[Client], idle: Mapping[str, str]
) -> dict[str, Any]:
    """The first record: everything that does not change over the rounds."""
    one = template(setup.bench, 1)
    return {
        "kind": "run",
        "name": recipe.name,
        "label": label,
        "seed": recipe.seed,
        "recipe": recipe.model_dump(mode="json"),
        "versions": versions(),
        "machine": {
            "system": platform.platform(terse=True),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "data": dict(setup.source),
        "init_from": dict(setup.bench.initial.facts),
        "metric": setup.bench.objective.metric,
        "classes": list(setup.classes),
        "clients": [
            {
                "id": c.id,
                "rank": c.rank,
                "examples": c.examples,
                "validation": len(setup.validation.get(c.id, ())),
                "labels": setup.histogram(c.id),
            }
            for c in clients
        ],
        "idle": [{"id": id, "reason": reason} for id, reason in idle.items()],
        "parameters": {
            "head": sum(setup.bench.net.get_parameter(n).numel() for n in setup.bench.head),
            "per_rank": sum(map(parameters, one.values())),
        },
    }


def versions() -> dict[str, str]:
    """What decides a run's bits beside its recipe."""
    found = {name: version(name) for name in PACKAGES}
    return {"polyrank": __version__, "python": platform.python_version(), **found}


def round_record(
    number: int,
    round: Round | None,
    test: Measured | None,
    spectrum: Any,
    seconds: float,
    probes: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A round's record; `round` is None for number 0, before any training."""
    info: Mapping[str, Any] = round.info if round else {}
    weights = info.get("weights", {})
    return {
        "kind": "round",
        "round": number,
        "clients": [_reply(r, weights) for r in round.replies] if round else [],
        "left_out": [
            {
                "id": r.client.id,
                "reason": r.failure,
                "norm": r.norm and r.norm._asdict(),
                "up": asdict(r.up),
                "down": asdict(r.down),
            }
            for r in (round.left_out if round else [])
        ],
        "test": test,
        "info": dict(info),
        "spectrum": spectrum,
        "probes": list(probes),
        "seconds": seconds,
        "unchanged": round is not None and not round.replies,
    }


def final_record(
    test: Measured | None, held: Mapping[Client, Score], of: int, setup: Setup, seconds: float
) -> dict[str, Any]:
    """The last record: the global model, and the models that these clients, drawn from so many,
    hold."""
    return {
        "kind": "final",
        "test": test,
        "clients": [
            {
                "id": c.id,
                "rank": c.rank,
                "accuracy": score.accuracy,
                f"own_{setup.bench.objective.metric}": score.on(setup.histogram(c.id)),
                "loss": score.loss,
            }
            for c, score in held.items()
        ],
        "of": of,
        "seconds": seconds,
    }


def measured(score: Score | None, setup: Setup) -> Measured | None:
    """A score as the records have it."""
    if score is None:
        return None
    found: Measured = {"loss": score.loss, "accuracy": score.accuracy}
    if setup.bench.objective.metric == "loss":
        found["perplexity"] = perplexity(score.loss)
    return found


def _reply(reply: Reply, weights: Mapping[str, float]) -> dict[str, Any]:
    upload = reply.upload
    return {
        "id": reply.client.id,
        "rank": reply.client.rank,
        "examples": upload.examples if upload else 0,
        "loss": upload.metrics.get("loss") if upload else None,
        "seconds": reply.seconds,
        "alone": reply.alone,
        "metrics": dict(upload.metrics) if upload else {},
        "weight": weights.get(reply.client.id),
        "norm": reply.norm and reply.norm._asdict(),
        "up": asdict(reply.up),
        "down": asdict(reply.down),
    }
