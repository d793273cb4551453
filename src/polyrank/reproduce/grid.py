"""Many runs of one experiment: listed, shared out among processes, resumed, gathered.

A trial is a recipe's name, overrides and a seed. What is done is a line of JSON in a file of its
process, so that a run that is killed goes on where it stopped.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyrank.errors import StorageError
from polyrank.experiment.ready import fitting, prepared
from polyrank.experiment.setup import Setup, shared
from polyrank.experiment.trial import trial
from polyrank.recipe.load import load
from polyrank.report.records import RunRecords, cut_broken_line


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of an experiment.

    Args:
        part: of the experiment: a grid of learning rates, the runs themselves, a sweep.
        cell: the setting, which the algorithms share.
        label: the algorithm, or a variant of it.
        seed: the recipe's.
        overrides: `key=value` on top of the experiment's recipe.
        group: trials of one group and seed have the same model and data.
    """

    part: str
    cell: str
    label: str
    seed: int
    overrides: tuple[str, ...]
    group: str = ""

    @property
    def key(self) -> str:
        """Its name in the results, and all that decides them; where the data lies does not."""
        said = (o for o in self.overrides if not o.startswith("data.path="))
        return "|".join((self.part, self.cell, self.label, str(self.seed), *said))


Row = dict[str, Any]


def todo(trials: Iterable[Trial], done: Iterable[Row]) -> list[Trial]:
    """The trials without a row."""
    known = {row["key"] for row in done}
    return [t for t in trials if t.key not in known]


def run(recipe: str, trials: Sequence[Trial], to: Path) -> None:
    """Do these trials one after another; each one's row is appended to a file at once.

    Args:
        recipe: a bundled recipe's name.
        trials: those that share model and data side by side, so that they are loaded once.
        to: the file.

    Raises:
        PolyrankError: whatever is wrong with a recipe or the data; finished rows stay.
    """
    torch.set_num_threads(1)
    setup: tuple[str, Setup] | None = None
    for one in trials:
        made = load(recipe, [*one.overrides, f"seed={one.seed}"]).recipe
        if setup is None or setup[0] != shared(made):
            setup = (shared(made), prepared(made))
        fitting(made, setup[1])
        begun = time.monotonic()
        row = summary(one, trial(made, one.label, setup[1]), time.monotonic() - begun)
        append(to, row)


def append(to: Path, row: Row) -> None:
    """Add a row to a file; a part of a line that a kill left at its end goes first."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with to.open("a+b") as file:
        cut_broken_line(file.fileno())
        file.write(json.dumps(row).encode() + b"\n")


def summary(one: Trial, records: RunRecords, seconds: float) -> Row:
    """What is kept of a trial."""
    rounds = records.rounds
    info = [r.get("info", {}) for r in rounds[1:]]
    shape = rounds[-1].get("spectrum")
    return {
        "key": one.key,
        "part": one.part,
        "cell": one.cell,
        "label": one.label,
        "seed": one.seed,
        "accuracy": records.accuracy,
        "loss": records.test["loss"] if records.test else None,
        "by_round": {str(r["round"]): r["test"]["accuracy"] for r in rounds if r["test"]},
        "probes": {str(r["round"]): r["probes"] for r in rounds if r.get("probes")},
        "mb_up": round(records.up[-1], 4),
        "mb_down": round(records.down[-1], 4),
        "n_eff": [i["n_eff"] for i in info if "n_eff" in i][-1:],
        "drift": [i["drift"] for i in info if "drift" in i][-1:],
        "effective_rank": shape["effective_rank"] if shape else None,
        "seconds": round(seconds, 2),
    }


def rows(folder: Path) -> list[Row]:
    """Every row of an experiment's folder, in the order of their keys: results, and work on them.

    Raises:
        StorageError: a line that is no row (named as file:line).
    """
    found: dict[str, Row] = {}
    for path in (folder / "results.jsonl", *sorted((folder / "work").glob("part-*.jsonl"))):
        # what follows the last newline was cut off by a kill
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                found[row["key"]] = row
            except (ValueError, KeyError, TypeError):
                raise StorageError(f"{path}:{number} is not a row; delete that line") from None
    return [found[key] for key in sorted(found)]


def shares(trials: Sequence[Trial], workers: int) -> Iterator[list[Trial]]:
    """The trials for each process: whole cells and seeds, so that a setup is loaded once."""
    groups: dict[tuple[str, str, int], list[Trial]] = {}
    for one in trials:
        groups.setdefault((one.part, one.group, one.seed), []).append(one)
    dealt: list[list[Trial]] = [[] for _ in range(workers)]
    for group in groups.values():
        min(dealt, key=len).extend(group)
    return iter(dealt)
