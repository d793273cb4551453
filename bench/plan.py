"""Plan: what `polyrank plan` says before a run, over what is then measured.

Each is in a process of its own. What is measured: whole rounds of a federation in which all have
one rank, one client at a time; the seconds of a client's part of a round, the process's highest
resident memory, and the bytes of a client's messages.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench import federation
from bench.child import Job
from bench.federation import Setting
from bench.measure import children
from bench.section import Limits, Row, Section
from polyrank.client.room import peak
from polyrank.experiment.planning import needs
from polyrank.experiment.ready import prepared
from polyrank.experiment.running import begin
from polyrank.recipe import Recipe
from polyrank.server.loop import Round, train

RANKS = (4, 64)
TINY = [Setting(2, 1.0, 1, 4, 8, 1)]
QUICK = [Setting(4, 1.0, 8, 16, 64, 2)]
ALL = [*QUICK, Setting(4, 1.0, 16, 4, 32, 2)]
NOTES = [
    "MiniLM, four clients with one rank, each with `steps` steps of `batch` texts of `length` "
    "tokens; of the second round. Memory counts everything that the process holds: libraries, "
    "model, texts, a step's tensors and what the allocator keeps.",
]


def run(quick: bool, limits: Limits) -> Section:
    """Every setting at the lowest and the highest rank.

    Args:
        quick: one setting only.
        limits: for the threads, and whether it is a test.
    """
    rows: list[Row] = []
    worst: dict[str, float] = {}
    for setting in TINY if limits.tiny else QUICK if quick else ALL:
        for rank in RANKS:
            said, seen = _both(setting, rank, limits.threads)
            for what, value in said.items():
                over = value / seen[what]
                rows.append({
                    "batch": setting.batch, "length": setting.length, "steps": setting.steps,
                    "rank": rank, "what": what, "planned": value, "measured": seen[what],
                    "planned over measured": over,
                })  # fmt: skip
                limits.tell(rows[-1])
                name = f"plan_over_measured_{what.split()[0]}"
                worst[name] = max(worst.get(name, 1.0), over, key=lambda x: abs(x - 1))
    return Section("Plan", rows, worst, NOTES)


def planned(args: dict[str, Any]) -> Job:
    """What is said before."""
    return Job(
        lambda: needs(_recipe(args)),
        lambda found: _row(found[0].seconds, found[0].memory, found[0].up, found[0].down),
    )


def measured(args: dict[str, Any]) -> Job:
    """What then happens."""
    recipe = _recipe(args)
    run = begin(recipe, prepared(recipe), None)

    def rounds() -> Round:
        for number, done in enumerate(train(run.plan, run.exchange, run.federation), 1):
            run.accept(done)
            if number == 2:
                return done
        raise AssertionError("a recipe of more rounds")

    def told(done: Round) -> dict[str, object]:
        replies = done.replies
        return _row(
            median(r.seconds for r in replies), peak(),
            *(int(median(size.total for size in way)) for way in (
                [r.up for r in replies], [r.down for r in replies])),
        )  # fmt: skip

    return Job(rounds, told)


def _row(seconds: float, memory: int, up: int, down: int) -> dict[str, object]:
    return {"seconds": seconds, "memory MB": memory / 1e6, "up MB": up / 1e6, "down MB": down / 1e6}


def _recipe(args: dict[str, Any]) -> Recipe:
    asked = Recipe.model_validate(federation.recipe(args, 1.0))
    lora = asked.lora.model_copy(update={"ranks": args["rank"]})
    return asked.model_copy(update={"lora": lora})


def _both(setting: Setting, rank: int, threads: int) -> tuple[dict[str, float], dict[str, float]]:
    """What is planned, and what is measured."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        args = {**federation.write(Path(folder), setting), "group": 1, "rank": rank}
        args["threads"] = threads
        for name in ("planned", "measured"):
            with children({name: (f"bench.plan:{name}", args)}) as one:
                one[name].answer()
                answer = one[name].go()
            found.append({key: float(answer[key]) for key in _row(0.0, 0, 0, 0)})
    return found[0], found[1]
