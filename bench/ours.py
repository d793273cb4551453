"""Ours in a simulation: whole rounds as `polyrank run` does them, in a process of its own."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from bench import federation
from bench.child import Job
from polyrank.api import load_recipe
from polyrank.experiment.ready import prepared
from polyrank.experiment.running import begin
from polyrank.lora import products
from polyrank.recipe import Recipe
from polyrank.server.loop import Round, train


def start(args: dict[str, Any]) -> Job:
    """One client's round as a beginning; then a step is a round: send, train, check, aggregate.

    With args["count"], a step's floating-point operations are counted instead of timed.
    """
    setup = prepared(_recipe(args, 1.0))  # the same words of model and data: one setup for both
    alone = _recipe(args, 1 / args["clients"])
    run = begin(alone, setup, None)
    _all_answered(next(train(run.plan, run.exchange, run.federation)))
    run = begin(_recipe(args, args["share"]), setup, None)
    rounds = train(run.plan, run.exchange, run.federation)

    def step() -> Round:
        done = next(rounds)
        run.accept(done)
        return done

    def counted() -> dict[str, object]:
        counter = FlopCounterMode(display=False, custom_mapping=_formulas())
        with counter:
            done = step()
        return {**_told(done, args), "flops": counter.get_total_flops()}

    assert run.simulator is not None
    group = {"group": run.simulator.group}
    if args.get("count"):
        return Job(counted, lambda told: told, group)
    return Job(step, lambda done: _told(done, args), group)


def _formulas() -> dict[Any, Any]:
    """What torch does not count by itself."""
    if not products.able():
        return {}
    return {torch.ops.mkldnn._linear_pointwise: _of_linear}


def _of_linear(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(x) * weight[0]


def _told(done: Round, args: dict[str, Any]) -> dict[str, object]:
    return {"samples": _all_answered(done) * args["steps"] * args["batch"]}


def _all_answered(done: Round) -> int:
    """How many clients trained; a round that left one out measures nothing."""
    if done.left_out:
        raise RuntimeError(f"{done.left_out[0].client.id}: {done.left_out[0].failure}")
    return len(done.replies)


def _recipe(args: dict[str, Any], share: float) -> Recipe:
    path = Path(args["folder"]) / f"{args['group']}-{share:g}.yaml"
    path.write_text(yaml.safe_dump(federation.recipe(args, share)))
    return load_recipe(path)
