"""The toy problem as an experiment: a trial for each algorithm, each variant and each law."""

from collections.abc import Sequence
from pathlib import Path

import torch

from polyrank.reproduce import grid, toy_page
from polyrank.reproduce.experiment import Section, Stage
from polyrank.reproduce.grid import Row, Trial
from polyrank.reproduce.toy import Setting
from polyrank.reproduce.toy_figures import CATCHUP, GRID, convergence, everything
from polyrank.reproduce.toy_laws import decay, exactness
from polyrank.reproduce.toy_runs import Method

ROUNDS, SEEDS = 80, 5
METHODS = {"convergence": everything(), "sweep": list(CATCHUP)}
LAWS = {"decay": decay, "exactness": exactness}


def stages(folder: Path, quick: bool) -> list[Stage]:
    """One stage; quick: three learning rates, three seeds, half the rounds."""
    size = (f"rounds={ROUNDS // 2}", "seeds=3", "rates=3") if quick else (
        f"rounds={ROUNDS}", f"seeds={SEEDS}", f"rates={len(GRID)}"
    )  # fmt: skip
    methods = [Trial(part, "toy", m.label, 0, size, m.label)
               for part, listed in METHODS.items() for m in listed]  # fmt: skip
    laws = [Trial(law, "toy", law, 0, (), law) for law in LAWS]
    return [lambda rows: [*methods, *laws]]


def run(trials: Sequence[Trial], to: Path) -> None:
    """Do these trials one after another; each one's row is appended to a file at once."""
    torch.set_num_threads(1)
    for one in trials:
        data = LAWS[one.part](Setting()) if one.part in LAWS else _course(one)
        row = {"key": one.key, "part": one.part, "label": one.label, "data": data}
        grid.append(to, row)


def section(rows: Sequence[Row]) -> Section:
    """The page's section, from the rows."""
    parts: dict[str, object] = {r["part"]: r["data"] for r in rows if r["part"] in LAWS}
    for part, methods in METHODS.items():
        order = [m.label for m in methods]
        found = sorted(
            (r for r in rows if r["part"] == part), key=lambda r: order.index(r["label"])
        )
        merged = [row for r in found for row in r["data"]["rows"]]
        parts[part] = {**found[0]["data"], "rows": merged} if found else None
    return toy_page.section(parts)


def _course(one: Trial) -> object:
    size = {k: int(v) for k, _, v in (text.partition("=") for text in one.overrides)}
    method: Method = next(m for m in METHODS[one.part] if m.label == one.label)
    few = GRID if size["rates"] == len(GRID) else GRID[1:4]
    return convergence([method], Setting(), size["rounds"], range(size["seeds"]), few)
