"""Means over seeds with Student's 95 % intervals, and the places that follow from them.

mean ± t_{0.975, n−1} · s/√n,   s the standard deviation over the n seeds
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean, stdev

from polyrank.errors import StorageError
from polyrank.report.format import Round
from polyrank.report.metric import ACCURACY, Metric
from polyrank.report.records import RunRecords

OWN = {"name", "seed", "output"}  # what may differ between runs of one experiment
Groups = Mapping[str, Sequence[RunRecords]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over n seeds; `half` is half the 95 % interval, None for a single seed."""

    mean: float
    half: float | None
    n: int

    @property
    def low(self) -> float:
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half or 0.0)


@dataclass(frozen=True, slots=True)
class Point:
    """A value after `round`, by when `mb` MB (up and down, all clients) had been sent."""

    round: int
    mb: float
    value: Estimate


@dataclass(frozen=True, slots=True)
class Row:
    """One label's line in the summary.

    Args:
        label: algorithm or variant.
        seeds: runs that count: the finished ones, or all while none is finished.
        unfinished: runs of this label that have not come to their end.
        finished: whether the figures are of finished runs.
        metric: what models are judged by.
        score: the final model in it, on the test set.
        gain: by how much that is better than round 0.
        rounds_to_target: mean first round with the target, if every run reached it.
        missed: runs that did not reach the target.
        mb_up: MB uploaded by all clients in a run, mean over seeds.
        mb_down: the same for downloads.
        seconds: wall time of a run, mean over seeds.
        places: best and worst place that the intervals allow; None without an interval.
    """

    label: str
    seeds: int
    unfinished: int
    finished: bool
    metric: Metric
    score: Estimate | None
    gain: Estimate | None
    rounds_to_target: float | None
    missed: int
    mb_up: float
    mb_down: float
    seconds: float
    places: tuple[int, int] | None = None


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and half of the 95 % interval; no interval for one value, None for no value."""
    if not values:
        return None
    n = len(values)
    half = _student(n - 1) * stdev(values) / n**0.5 if n > 1 else None
    return Estimate(fmean(values), half, n)


@cache
def _student(freedom: int) -> float:
    """t_{0.975} of so many degrees of freedom."""
    from scipy.stats import t  # takes a second, and one seed has no interval

    return float(t.ppf(0.975, freedom))


def grouped(runs: Sequence[RunRecords]) -> dict[str, list[RunRecords]]:
    """Runs by label, sorted by seed; `label (name)` where one label has several experiments.

    Raises:
        StorageError: the same experiment with the same seed twice: that is not another seed.
    """
    groups: dict[str, list[RunRecords]] = {}
    for label, members in _by(runs, lambda run: run.label).items():
        if _one_experiment(members):
            groups[label] = members
        else:
            named = _by(members, lambda run: run.name)
            groups |= {f"{label} ({name})": alike for name, alike in named.items()}
    for label, members in groups.items():
        if not _one_experiment(members):
            names = ", ".join(repr(run.name) for run in members)
            raise StorageError(
                f"runs {names} of {label} are no seeds of one experiment: they share a seed or "
                "differ in their recipe; give them names of their own, or report one of them"
            )
    return {label: sorted(members, key=lambda run: run.seed) for label, members in groups.items()}


def counted(runs: Sequence[RunRecords]) -> list[RunRecords]:
    """The runs that count: the finished ones, or all while none is finished."""
    return [run for run in runs if run.complete] or list(runs)


def curve(runs: Sequence[RunRecords], value: Callable[[Round], float | None]) -> list[Point]:
    """`value` by round, over the runs that count and have it in that round."""
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for run in counted(runs):
        for record, up, down in zip(run.rounds, run.up, run.down, strict=True):
            if (y := value(record)) is not None:
                found[record["round"]].append((up + down, y))
    points = []
    for round, pairs in sorted(found.items()):
        if (over_seeds := estimate([y for _, y in pairs])) is not None:
            points.append(Point(round, fmean(mb for mb, _ in pairs), over_seeds))
    return points


def rounds_to(run: RunRecords, target: float) -> int | None:
    """The first measured round that is at least as good as `target`."""
    for record in run.rounds:
        if run.metric.reaches(run.metric.of(record["test"]), target):
            return record["round"]
    return None


def metric(groups: Groups) -> Metric:
    """What all runs are judged by.

    Raises:
        StorageError: not all by the same.
    """
    found = {run.metric.name: run.metric for runs in groups.values() for run in runs}
    if len(found) > 1:
        raise StorageError(
            f"these runs are judged by {' and '.join(sorted(found))}, which do not compare; "
            "report them one by one"
        )
    return next(iter(found.values()), ACCURACY)


def summary(runs: Sequence[RunRecords], target: float | None = None) -> list[Row]:
    """A row per label, best mean first, labels without a finished run last.

    Raises:
        StorageError: the runs are judged by different things, or as for `grouped`.
    """
    groups = grouped(runs)
    metric(groups)
    rows = [_row(label, members, target) for label, members in groups.items()]
    rows.sort(key=lambda row: (not row.finished, -_goodness(row)))
    return _placed(rows)


def _goodness(row: Row) -> float:
    """Higher for a better row."""
    return -math.inf if row.score is None else row.metric.gain(0.0, row.score.mean)


def _row(label: str, runs: Sequence[RunRecords], target: float | None) -> Row:
    used = counted(runs)
    ends, metric = [(run.value, run.first_value) for run in used], used[0].metric
    reached = [t for run in used if target and (t := rounds_to(run, target)) is not None]
    missed = len(used) - len(reached) if target else 0
    return Row(
        label=label,
        seeds=len(used),
        unfinished=sum(not run.complete for run in runs),
        finished=used[0].complete,
        metric=metric,
        score=estimate([last for last, _ in ends if last is not None]),
        gain=estimate([metric.gain(a, b) for b, a in ends if b is not None and a is not None]),
        rounds_to_target=fmean(reached) if reached and not missed else None,
        missed=missed,
        mb_up=fmean(run.up[-1] if run.up else 0.0 for run in used),
        mb_down=fmean(run.down[-1] if run.down else 0.0 for run in used),
        seconds=fmean(run.seconds for run in used),
    )


def _placed(rows: list[Row]) -> list[Row]:
    """Give each row its places: a row is ahead of another if their intervals do not touch."""
    known = {r.label: a for r in rows if r.finished and (a := r.score) and a.half is not None}
    placed = []
    for row in rows:
        if (own := known.get(row.label)) is not None:
            above = sum(other.low > own.high for other in known.values())
            below = sum(other.high < own.low for other in known.values())
            ahead, behind = (above, below) if row.metric.higher else (below, above)
            row = replace(row, places=(1 + ahead, len(known) - behind))
        placed.append(row)
    return placed


def _by(
    runs: Sequence[RunRecords], key: Callable[[RunRecords], str]
) -> dict[str, list[RunRecords]]:
    groups: dict[str, list[RunRecords]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return groups


def _one_experiment(runs: Sequence[RunRecords]) -> bool:
    recipes = [{k: v for k, v in run.run["recipe"].items() if k not in OWN} for run in runs]
    same = len({json.dumps(recipe, sort_keys=True) for recipe in recipes}) <= 1
    return same and len({run.seed for run in runs}) == len(runs)
