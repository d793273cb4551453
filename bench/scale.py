"""Time and memory against the number of clients: to the first local step, and by round.

Every federation is simulated in a process of its own, `python -m bench.scale`.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.section import Limits, Section

CLIENTS = (100, 1_000, 10_000)
ACTIVE, TEXTS, LENGTH = 10, 20_000, 16
WORDS = ("time", "year", "people", "way", "day", "man", "woman", "life", "child", "world", "state")
Row = dict[str, Any]


def run(quick: bool, limits: Limits) -> Section:
    """Ten clients a round of 100, 1,000 and 10,000 that share the same texts.

    Args:
        quick: five rounds instead of twenty.
        limits: for the threads.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _write(folder)
        asked = {"folder": place, "rounds": 5 if quick else 20, "threads": limits.threads}
        cold = _measured(folder, {**asked, "clients": CLIENTS[0], "rounds": 1})
        rows = [_measured(folder, {**asked, "clients": n}) for n in CLIENTS]
    few, many = rows[0], rows[-1]
    more = many["clients"] - few["clients"]
    slope_s = (many["first_step_s"] - few["first_step_s"]) / more
    slope_mb = (many["first_step_mb"] - few["first_step_mb"]) / more
    keys = ("first_step_s", "first_step_mb", "round_s", "last_mb")
    return Section(
        "Clients up to 10,000",
        rows,
        {f"scale_{key}_10000_over_100": many[key] / few[key] for key in keys},
        [
            f"{TEXTS:,} texts of up to {LENGTH} tokens, MiniLM, ranks 4 to 64, {ACTIVE} clients a "
            "round of two steps of eight texts; seconds from the start of the process, MB of "
            "resident memory at its peak (10⁶ bytes), token ids mapped from the cache.",
            f"A client more costs {1e6 * slope_s:.0f} µs and {1e3 * slope_mb:.2f} kB until the "
            f"first step. The first run of all, which tokenised, took {cold['first_step_s']:.1f} s "
            "to it.",
        ],
    )


def _measured(folder: Path, args: Row) -> Row:
    """One federation in its own process."""
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": str(args["threads"]),
    }
    said = json.dumps({**args, "born": time.time()})
    command = [sys.executable, "-m", "bench.scale", said]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def _write(folder: Path) -> None:
    draw = random.Random(0)
    for name, count in (("train", TEXTS), ("test", 64)):
        rows = [
            {"text": " ".join(draw.choices(WORDS, k=draw.randint(4, LENGTH - 2))), "label": i % 4}
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def _recipe(args: Row) -> Row:
    return {
        "data": {"path": Path(args["folder"]), "clients": args["clients"], "max_length": LENGTH},
        "lora": {"ranks": {4: 0.6, 16: 0.3, 64: 0.1}},
        "rounds": args["rounds"],
        "participation": ACTIVE / args["clients"],
        "local": {"steps": 2, "batch": 8},
        "evaluation": {"every": args["rounds"], "probe": 0},
    }


def _simulate(args: Row) -> Row:
    """Rounds in this process; what is timed begins with the interpreter, imports and all."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from polyrank.client.room import peak, resident
    from polyrank.experiment.ready import prepared
    from polyrank.experiment.running import begin, first
    from polyrank.recipe import Recipe
    from polyrank.server.loop import train

    torch.set_num_threads(args["threads"])
    begun: list[tuple[float, float]] = []

    def stepped(*_: object) -> None:
        if not begun:
            begun.append((time.time() - args["born"], peak() / 1e6))

    register_optimizer_step_post_hook(stepped)
    recipe = Recipe.model_validate(_recipe(args))
    run = begin(recipe, prepared(recipe), None)
    first(run, "scale")
    seconds, held, at = [], [], time.perf_counter()
    for done in train(run.plan, run.exchange, run.federation):
        if done.left_out:
            raise RuntimeError(str(done.left_out[0].failure))
        run.accept(done)
        seconds.append(time.perf_counter() - at)
        held.append(resident() / 1e6)
        at = time.perf_counter()
    return {
        "clients": args["clients"],
        "first_step_s": begun[0][0],
        "first_step_mb": begun[0][1],
        "round_s": median(seconds[1:] or seconds),
        "last_mb": held[-1],
        "growth_mb_a_round": (held[-1] - held[0]) / max(1, len(held) - 1),
    }


if __name__ == "__main__":
    print(json.dumps(_simulate(json.loads(sys.argv[1]))))
