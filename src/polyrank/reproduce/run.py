"""Doing an experiment: stage after stage, in several processes, from wherever it stopped.

<out>/<name>/work/part-k.jsonl     a row per finished trial, one file per process
<out>/<name>/results.jsonl         all rows, when a stage is complete
<docs>/results.md, figures/        the page made of the results of all experiments
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from polyrank import files
from polyrank.errors import PolyrankError, RecipeError, nearest
from polyrank.reproduce import grid
from polyrank.reproduce.data import FOLDER
from polyrank.reproduce.experiment import Experiment
from polyrank.reproduce.grid import Row, Trial
from polyrank.reproduce.names import EXPERIMENTS

Watch = Callable[[int, int], None]  # trials done, of how many


def reproduce(
    name: str, out: Path, folder: Path = FOLDER, workers: int = 2, quick: bool = False,
    watch: Watch = lambda *_: None,
) -> list[Row]:  # fmt: skip
    """Do what is left of an experiment and return all its rows.

    Args:
        name: of the experiment.
        out: the folder for the results of all experiments.
        folder: local copies of the data sets; those that are missing come from the hub.
        workers: processes.
        quick: the smallest version that still shows what it is about.
        watch: hears how many of the stage's trials are done.

    Raises:
        PolyrankError: no such experiment, or whatever is wrong with the data.
    """
    experiment, asked = known(name), set[str]()
    try:
        for stage in experiment.stages(folder, quick):
            trials = stage(rows_of(name, out))
            asked |= {t.key for t in trials}
            _finish(name, out, trials, (folder, workers, quick), watch)
    finally:  # also of a run that is stopped: what is done is a result
        own = {row["key"] for row in grid.rows(out / name)}
        rows = [row for row in rows_of(name, out) if row["key"] in asked | own]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        files.write(out / name / "results.jsonl", lines.encode())
    return rows


def _finish(
    name: str, out: Path, trials: list[Trial], how: tuple[Path, int, bool], watch: Watch
) -> None:
    """Do what is left of a stage."""
    needed = bool(grid.todo(trials, rows_of(name, out)))
    with _working(name, out, how, needed) as busy:
        while True:
            left = len(grid.todo(trials, rows_of(name, out)))
            watch(len(trials) - left, len(trials))
            if not busy():
                break
            time.sleep(1)
    if missing := grid.todo(trials, rows_of(name, out)):
        raise PolyrankError(
            f"{len(missing)} of {len(trials)} trials of {name} did not finish; what is wrong "
            "is said above; the same command goes on from here"
        )


def rows_of(name: str, out: Path) -> list[Row]:
    """The rows so far that an experiment can use: its own, and those of one with common trials."""
    also = known(name).also
    return [*grid.rows(out / name), *(grid.rows(out / also) if also else [])]


def work(name: str, out: Path, folder: Path, share: tuple[int, int], quick: bool) -> None:
    """One process's share (k, of n) of the first stage that is not complete."""
    experiment, place = known(name), out / name / "work"
    for stage in experiment.stages(folder, quick):
        rows = rows_of(name, out)
        left = grid.todo(stage(rows), rows)
        if left:
            mine = list(grid.shares(left, share[1]))[share[0]]
            experiment.run(mine, place / f"part-{share[0]}.jsonl")
            return


def known(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in EXPERIMENTS:
        hint = nearest(name, EXPERIMENTS)
        raise RecipeError("reproduce", f"no experiment {name!r}; {hint}")
    return EXPERIMENTS[name]


def page(out: Path, docs: Path) -> Path:
    """Write docs/results.md and its figures from the results of every experiment that has any."""
    parts = [HEAD]
    for name, experiment in EXPERIMENTS.items():
        results = out / name / "results.jsonl"
        if not results.exists():
            continue
        section = experiment.section(
            [json.loads(line) for line in results.read_text().splitlines()]
        )
        parts.append(section.text.strip() + "\n")
        for figure, svg in section.figures.items():
            files.write(docs / "figures" / figure, svg.encode())
    files.write(docs / "results.md", "\n".join(parts).encode())
    return docs / "results.md"


HEAD = """# Results

Written by `polyrank reproduce NAME` from `experiments/NAME/results.jsonl`; nothing here is typed
by hand. Intervals are Student's 95 % over seeds; a difference inside the interval is a tie.
"""


@contextmanager
def _working(
    name: str, out: Path, how: tuple[Path, int, bool], needed: bool
) -> Iterator[Callable[[], bool]]:
    """Processes at work on a stage; what is yielded says whether any still is."""
    folder, workers, quick = how
    command = [sys.executable, "-m", "polyrank", "reproduce", name, f"--out={out}"]
    command += [f"--data={folder}", *(["--quick"] if quick else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([*command, f"--share={k}/{workers}"], env=environment)
        for k in range(workers if needed else 0)
    ]
    try:
        yield lambda: any(p.poll() is None for p in processes)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
