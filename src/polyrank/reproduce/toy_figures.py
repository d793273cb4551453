"""Convergence on the toy problem, as plain data.

    excess       (F(W_t) − F(W*)) / (F(0) − F(W*))
    rate         min_{s≤T} ‖∇F(W_s)‖² / ‖∇F(0)‖² against 1/√T

The rate O(1/√T) of FedHL (https://arxiv.org/abs/2505.18494) is reached only where the truncation
term vanishes: what clients hold must not stay apart from what the server holds (`drift`). At a
constant learning rate the gradient's noise leaves a floor as well.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from polyrank.algorithms import about, names
from polyrank.report.statistics import estimate
from polyrank.reproduce.toy import Setting, excess, gradient, problem
from polyrank.reproduce.toy_runs import Method, plan_of, ranks_of, steps

GRID = (0.01, 0.02, 0.05, 0.1, 0.2)  # the local learning rates that every algorithm may choose from
LOST = 100.0  # a relative excess from which a run counts as diverged


class Course(NamedTuple):
    """One run by round: relative excess and ‖∇F‖², numbers per client so far (from 0), drift."""

    excess: list[float]
    gradient: list[float]
    down: list[float]
    up: list[float]
    drift: list[float | None]


MOMENTUM = {"optimizer": "momentum", "momentum": 0.9, "lr": 0.2}
CATCHUP = (
    Method("catchup"),
    Method("catchup", {"start": "random"}),
    Method("catchup", {"start": "random", "down": 2.0}),
    Method("catchup", {"tau": 0.99}),
    Method("catchup", {"trust": 1.0}),
    Method("catchup", server=MOMENTUM),
    Method("flora"),
)


def everything() -> list[Method]:
    """Every algorithm with its defaults."""
    return [Method(name) for name in names()]


def convergence(
    methods: Sequence[Method],
    setting: Setting,
    rounds: int = 80,
    seeds: Sequence[int] = range(5),
    grid: Sequence[float] = GRID,
) -> dict[str, Any]:
    """Excess, gradients and traffic by round, at each method's best learning rate of the grid.

    The rate is chosen by the final excess under a seed of its own, the one after the largest.

    Args:
        methods: what to compare.
        setting: the problem; an algorithm of equal ranks gets the mean rank, rounded down.
        rounds: of every run.
        seeds: of the problem, the noise and the algorithm together.
        grid: learning rates, the same for every method.

    Returns:
        The setting and a row per method, as JSON.
    """
    rows = [_row(m, setting, rounds, seeds, grid) for m in methods]
    shown = {"rounds": rounds, "seeds": list(seeds), "grid": list(grid)}
    return {"setting": asdict(setting), **shown, "rows": rows}


def course(method: Method, setting: Setting, lr: float, seed: int, rounds: int) -> Course:
    """One run; where it diverges it ends, and its excess is infinite."""
    of = problem(setting, seed)
    zero = torch.zeros_like(of.optimum)
    start, steep = excess(of, zero), float(gradient(of, zero).square().sum())
    found = Course([], [], [0.0], [0.0], [])
    for step in steps(plan_of(method, setting, seed, rounds), of, setting, lr):
        found.excess.append(excess(of, step.model) / start)
        found.gradient.append(float(gradient(of, step.model).square().sum()) / steep)
        traces = step.traces.values()
        found.down.append(found.down[-1] + sum(t.down for t in traces) / len(traces))
        found.up.append(found.up[-1] + sum(t.up for t in traces) / len(traces))
        found.drift.append(step.info.get("drift"))
        if step.refused or not found.excess[-1] < LOST:
            lost = [math.inf] * rounds
            return found._replace(excess=lost, gradient=lost)
    return found


def slope(values: Sequence[float]) -> float:
    """Least-squares slope of log v_T against log T over the second half of T = 1…"""
    first = len(values) // 2
    x = torch.arange(first + 1, len(values) + 1, dtype=torch.float64).log()
    y = torch.tensor(values[first:], dtype=torch.float64).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / x.square().sum())


def best_so_far(values: Sequence[float]) -> list[float]:
    """min_{s≤t} v_s."""
    return torch.tensor(values, dtype=torch.float64).cummin(dim=0).values.tolist()


def _row(
    method: Method, setting: Setting, rounds: int, seeds: Sequence[int], grid: Sequence[float]
) -> dict[str, Any]:
    tried = {lr: course(method, setting, lr, max(seeds) + 1, rounds).excess[-1] for lr in grid}
    lr = min(tried, key=lambda rate: tried[rate])
    runs = [course(method, setting, lr, seed, rounds) for seed in seeds]
    known = about(method.name)
    least = [best_so_far(run.gradient) for run in runs]
    drifts = [last for run in runs if (last := run.drift[-1]) is not None]
    return {
        "label": method.label,
        "name": method.name,
        "equal_rank": None if known.mixed else ranks_of(method.name, setting)[0],
        "personal": known.personal,
        "tried": [{"lr": rate, "excess": _finite(value)} for rate, value in tried.items()],
        "lr": lr,
        "excess": _by_round([run.excess for run in runs]),
        "gradient": _by_round(least),
        "slope": _told([slope(values) for values in least]),
        "drift": _told(drifts),
        "down": runs[0].down[1:],
        "up": runs[0].up[1:],
    }


def _by_round(runs: Sequence[Sequence[float]]) -> list[dict[str, float | None] | None]:
    return [_told(values) for values in zip(*runs, strict=True)]


def _told(values: Sequence[float]) -> dict[str, float | None] | None:
    """Mean and half of the 95 % interval; None where a run has diverged or has no value."""
    value = estimate(values) if all(map(math.isfinite, values)) else None
    return None if value is None else {"mean": value.mean, "half": value.half}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
