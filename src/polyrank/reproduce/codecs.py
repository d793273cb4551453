"""What codecs cost: the demo with each, for uploads, downloads and both; accuracy and traffic."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from polyrank.recipe.load import load
from polyrank.report.words import count, listed, megabytes
from polyrank.reproduce import tables
from polyrank.reproduce.experiment import Section, Stage
from polyrank.reproduce.grid import Row, Trial
from polyrank.reproduce.tables import Index, bold, code, prose, said

RECIPE = "demo"
CELL = "demo"
SEEDS = (0, 1, 2)
PLAIN = ("fp32", "fp32")
BOTH = ("bf16", "int8", "int4")
UP = ("topk(0.1)", "topk(0.1)+int8", "topk(0.1)+int4")
PAIRS = (  # (up, down)
    PLAIN,
    *((codec, codec) for codec in BOTH),
    *((codec, "fp32") for codec in (*BOTH, *UP)),
    *(("fp32", codec) for codec in BOTH),
    *((codec, "int8") for codec in UP),
)
QUICK = (PLAIN, *((codec, codec) for codec in BOTH), *((codec, "int8") for codec in UP[1:2]))


def label(pair: tuple[str, str]) -> str:
    """What a trial with these codecs is called."""
    return " / ".join(pair)


def stages(folder: Path, quick: bool) -> list[Stage]:
    """All runs; quick: two seeds, and codecs for both ways."""
    return [lambda rows: list(runs(QUICK if quick else PAIRS, SEEDS[:2] if quick else SEEDS))]


def runs(pairs: Sequence[tuple[str, str]], seeds: Sequence[int]) -> Iterator[Trial]:
    """The demo with each pair of codecs."""
    last = load(RECIPE).recipe.rounds
    common = (f"evaluation.every={last}", "evaluation.probe=0")
    for seed in seeds:
        for up, down in pairs:
            own = (*common, f"wire.up={up}", f"wire.down={down}")
            yield Trial("runs", CELL, label((up, down)), seed, own, CELL)


def section(rows: Sequence[Row]) -> Section:
    """The section from the rows that there are; what is missing is named."""
    found = tables.index(rows, "runs")
    seeds = [s for s in SEEDS if (label(PLAIN), CELL, s) in found]
    there = [p for p in PAIRS if all((label(p), CELL, s) in found for s in seeds)]
    parts = ["## What codecs cost", *_setting(len(seeds) or len(SEEDS))]
    parts.append(_table(found, there, seeds) if len(seeds) > 1 else "Not run yet.")
    if seeds and (left := [label(p) for p in PAIRS if p not in there]):
        parts.append(prose(f"Not run yet: {listed(code(left))}."))
    return Section("\n\n".join(parts) + "\n", {})


def _setting(seeds: int) -> Iterator[str]:
    recipe = load(RECIPE).recipe
    yield "    .venv/bin/polyrank reproduce codecs"
    yield prose(
        f"The demo (`{recipe.algorithm.name}`, {count(recipe.data.clients, 'client')} of mixed "
        f"ranks, {count(recipe.rounds, 'round')}, {count(recipe.data.test_examples or 0, 'text')} "
        "held out) with each codec up, down and both ways (`wire.up`, `wire.down`). Accuracy in %, "
        f"mean ± half the 95 % interval over {count(seeds, 'seed')}; the difference to fp32 "
        "is paired by seed, in points, in bold where its interval leaves out 0. MB (10⁶ bytes) of "
        "all messages of a run, head, names and shapes included, and their share of fp32's."
    )


def _table(found: Index, there: Sequence[tuple[str, str]], seeds: Sequence[int]) -> str:
    plain = label(PLAIN)
    lines = []
    for pair in there:
        name = label(pair)
        accuracy = said(tables.over_seeds(found, name, [CELL], seeds))
        gap = tables.paired(found, name, plain, [CELL], seeds)
        less = "" if pair == PLAIN else bold(said(gap, "+"), tables.standing(gap) != "tie")
        sent = []
        for key in ("mb_up", "mb_down"):
            mb, whole = (tables.mean_of(found, key, n, [CELL], seeds) for n in (name, plain))
            sent += [megabytes(mb), f"{mb / whole:.3f}"]
        lines.append([*code(pair), accuracy, less, *sent])
    head = ["up", "down", "accuracy", "less fp32", "MB up", "share", "MB down", "share"]
    return tables.table(head, lines)
