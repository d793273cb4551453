"""A billion parameters: what a base takes in memory as it is kept, and what `polyrank plan` says.

A Llama of random weights in Llama 3.2's shape at 1B is written once in bf16; then, in a process of
its own each, a recipe is planned and run for a round of two clients.
"""

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.child import Job
from bench.federation import WORDS
from bench.gpu_training import LLAMAS
from bench.measure import children
from bench.section import Limits, Row, Section
from bench.simulation import no_bf16
from polyrank.client.memory import weights
from polyrank.client.pretraining import tokenizer
from polyrank.client.room import forget_peak, peak
from polyrank.experiment.planning import Need, needs
from polyrank.experiment.ready import prepared
from polyrank.experiment.running import begin
from polyrank.recipe import Recipe
from polyrank.server.loop import Round, train

TITLE = "A billion parameters"
BASES = ("full", "int8", "int4")
RANKS = (4, 16)
FULL = {"model": "llama-1b", "steps": 2, "batch": 1, "length": 64}
TINY = {"model": "llama-tiny", "steps": 1, "batch": 2, "length": 16}
VOCABULARY = 1024  # the least that the tokenizer needs
NOTES = [
    "A round of two clients, one after another: ranks 4 and 16 on every linear layer but the "
    "output, `steps` steps of `batch` texts of `length` tokens, activations computed again "
    "(engine.checkpointing), all arithmetic in bf16 (engine.dtype); the base's linear layers are "
    "kept as `base` says (engine.base).",
    "`weights MB` is the model as it is kept. `loaded MB` is the most resident memory of the "
    "process until model and data are loaded, `round MB` during the round; both count libraries. "
    "`plan` is what `polyrank plan` says before, in a process of its own: memory of the client of "
    "the higher rank, seconds of both.",
]


def run(quick: bool, limits: Limits) -> Section:
    """Every kind of base.

    Args:
        quick: one kind only.
        limits: for the threads, whether bf16 is fast here, and whether it is a test.
    """
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    if not limits.bf16 and not limits.tiny:
        rows.append({"base": "all", "note": no_bf16(limits)})
        limits.tell(rows[-1])
        return Section(TITLE, rows, ratios, NOTES)
    with tempfile.TemporaryDirectory() as folder:
        args = {**(TINY if limits.tiny else FULL), "folder": folder, "threads": limits.threads}
        count = _done("written", args)["parameters"]
        for base in BASES[:1] if quick and not limits.tiny else BASES:
            said, seen = (_done(name, {**args, "base": base}) for name in ("planned", "measured"))
            rows.append(_row(args, base, count, said, seen))
            limits.tell(rows[-1])
            for what in ("memory", "seconds"):
                name = f"billion_plan_over_measured_{what}_{base}"
                ratios[name] = said[what] / seen[what]
    return Section(TITLE, rows, ratios, NOTES)


def written(args: dict[str, Any]) -> Job:
    """The model, its tokenizer and the texts, on disk."""
    return Job(lambda: _written(args), lambda count: {"parameters": count})


def planned(args: dict[str, Any]) -> Job:
    """What is said before."""

    def told(found: list[Need]) -> dict[str, object]:
        return {"memory": max(one.memory for one in found), "s": sum(one.seconds for one in found)}

    return Job(lambda: needs(_recipe(args)), told)


def measured(args: dict[str, Any]) -> Job:
    """What then happens: model and data loaded, and a round."""
    begun = time.perf_counter()
    recipe = _recipe(args)
    run = begin(recipe, prepared(recipe), None)
    started = {
        "weights": weights(run.setup.bench), "loaded": peak(), "load": time.perf_counter() - begun,
    }  # fmt: skip

    def told(done: Round) -> dict[str, object]:
        failed = [r.failure for r in done.replies if r.upload is None]
        assert not failed, failed
        return {"memory": peak(), "s": sum(r.seconds for r in done.replies), **started}

    def once() -> Round:
        forget_peak()  # so that a round's is its own
        return next(iter(train(run.plan, run.exchange, run.federation)))

    return Job(once, told)


def _written(args: dict[str, Any]) -> int:
    folder, draw = Path(args["folder"]), random.Random(0)
    texts = [" ".join(draw.choices(WORDS.split(), k=args["length"])) for _ in range(16)]
    for name, some in (("train", texts[4:]), ("test", texts[:4])):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in some)
        (folder / f"{name}.jsonl").write_text(lines)
    shape = LLAMAS[args["model"]]
    config = LlamaConfig(
        **{**shape, "vocab_size": max(VOCABULARY, shape["vocab_size"])},
        bos_token_id=0, eos_token_id=1, pad_token_id=1, max_position_embeddings=2048,
    )  # fmt: skip
    torch.manual_seed(0)
    net = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16)
    net.save_pretrained(folder / "model")
    tokenizer(texts).save_pretrained(folder / "model")
    return sum(p.numel() for p in net.parameters())


def _recipe(args: dict[str, Any]) -> Recipe:
    folder = Path(args["folder"])
    return Recipe.model_validate({
        "name": "bench",
        "task": "causal-lm",
        "model": str(folder / "model"),
        "data": {
            "path": folder / "train.jsonl", "test": folder / "test.jsonl", "format": "text",
            "clients": len(RANKS), "max_length": args["length"],
        },
        "lora": {"ranks": RANKS},
        "rounds": 1,
        "local": {"steps": args["steps"], "batch": args["batch"]},
        "evaluation": {"probe": 0},
        "generation": {"samples": 0},
        "engine": {"dtype": "bfloat16", "base": args["base"], "checkpointing": True, "group": 1},
    })  # fmt: skip


def _row(
    args: dict[str, Any], base: str, count: int, said: dict[str, float], seen: dict[str, float]
) -> Row:
    return {
        "base": base, "parameters": count, "steps": args["steps"], "batch": args["batch"],
        "length": args["length"], "weights MB": seen["weights"] / 1e6,
        "loaded MB": seen["loaded"] / 1e6, "load s": seen["load"],
        "round MB": seen["memory"] / 1e6, "plan MB": said["memory"] / 1e6,
        "plan over round MB": said["memory"] / seen["memory"], "round s": seen["seconds"],
        "plan s": said["seconds"], "plan over round s": said["seconds"] / seen["seconds"],
    }  # fmt: skip


def _done(name: str, args: dict[str, Any]) -> dict[str, Any]:
    """One job in a process of its own; its own seconds in the place of the process's."""
    with children({name: (f"bench.billion:{name}", args)}) as one:
        one[name].answer()
        answer = one[name].go()
    return {**answer, "seconds": answer.get("s", answer["seconds"])}
