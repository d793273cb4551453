"""The figures of what an aggregation does to slots and to the clients that hold most of them.

P_j = Σ_{i: r_i ≥ j} p_i        (1 − P_j is the dilution of slot j under zero padding)
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from statistics import fmean
from textwrap import fill
from typing import Any

from polyrank.report import figures, maps
from polyrank.report.clients import OF_CLIENT, weight
from polyrank.report.format import Round
from polyrank.report.labels import alike, together
from polyrank.report.metric import Metric
from polyrank.report.panels import Heat, Line, Panel
from polyrank.report.plots import lines, of_metric, plain
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Estimate, Groups, Point, counted, curve, estimate, metric
from polyrank.report.style import GREY
from polyrank.report.words import NOTHING, number

AFTER = "#D55E00"


def shares(groups: Groups) -> Any | None:
    """P_j by slot and weight by rank: means over rounds and seeds; equal lines are drawn once."""
    points = {label: _points(runs, _holders) for label, runs in groups.items()}
    drawn = _merged(lines(points, plain, at=lambda p: f"slot {p.round}"))
    title = "Weight of a slot's holders, P_j"
    held = Panel(title, "slot j", "P_j", drawn, from_zero=True) if drawn else None
    weights = by_rank(groups, weight, "Aggregation weight by rank", "weight of a client")
    panels = [panel for panel in (held, weights) if panel is not None]
    return figures.lines(panels, len(panels), height=280) if panels else None


def by_rank(
    groups: Groups, value: OF_CLIENT, title: str, unit: str, merge: bool = True
) -> Panel | None:
    """A client's value by its rank, mean over rounds and seeds; None where ranks are equal.

    Args:
        groups: runs by label.
        value: of a client in a round.
        title: of the panel.
        unit: of the value.
        merge: whether equal lines are drawn once, under a name for all of them.
    """
    points = {label: _points(runs, _mean_by_rank(value)) for label, runs in groups.items()}
    drawn = lines(points, plain, at=lambda p: f"rank {p.round}")
    ranks = sorted({round(x) for line in drawn for x in line.x})
    if len(ranks) < 2:
        return None
    shown = _merged(drawn) if merge else drawn
    return Panel(title, "LoRA rank", unit, shown, log_x=True, from_zero=True, ticks=ranks)


def _merged(drawn: Sequence[Line]) -> list[Line]:
    """Lines that coincide as one, which names them all when hovered over."""
    lines = {line.name: line for line in drawn}
    found = []
    for names in alike({n: (tuple(line.x), _rounded(line.y)) for n, line in lines.items()}):
        line, others = lines[names[0]], fill(", ".join(names[1:]), 60)
        text = [f"{t}\nand so {others}" for t in line.text] if others else line.text
        found.append(replace(line, name=together(names), text=text))
    return found


def _rounded(values: Sequence[float | None]) -> tuple[str, ...]:
    return tuple(number(v, 6) for v in values)


def change(groups: Groups) -> Any | None:
    """A map of how much better after than before, by label and round, mean over the probed and
    seeds."""
    judged = metric(groups)
    found = {label: curve(runs, partial(_change, judged)) for label, runs in groups.items()}
    found = {label: points for label, points in found.items() if points}
    rounds = sorted({p.round for points in found.values() for p in points})
    if not rounds:
        return None
    z, text = [], []
    for label, points in found.items():
        at = {p.round: p.value for p in points}
        z.append([judged.scale * at[t].mean if t in at else None for t in rounds])
        text.append([f"{label}\nround {t}: {_in_units(at.get(t), judged)}" for t in rounds])
    heat = Heat("", "round", "", [str(t) for t in rounds], list(found), z, text)
    return maps.heats([heat], 1, judged.unit, row=24, signed=True)


def before_and_after(groups: Groups) -> Any | None:
    """The same values themselves, a panel for each label."""
    panels, judged = [], metric(groups)
    for label, runs in groups.items():
        pair = []
        for side, shade in (("before", GREY), ("after", AFTER)):
            points = {f"just {side}": curve(runs, _probed(side))}
            drawn = of_metric(points, judged)
            pair += [
                replace(d, colour=shade, text=[f"{label}\n{t}" for t in d.text]) for d in drawn
            ]
        if pair:
            panels.append(Panel(label, "round", judged.axis, pair))
    return figures.lines(panels, min(3, len(panels)), height=210, shared=True) if panels else None


def _holders(run: RunRecords) -> dict[int, float]:
    """P_j by slot j from 1, mean over the rounds; a slot that nobody held counts as 0."""
    found = [r["info"]["dilution"] for r in run.rounds if r.get("info", {}).get("dilution")]
    return {j: fmean(p) for j, p in enumerate(zip_longest(*found, fillvalue=0.0), start=1)}


def _mean_by_rank(value: OF_CLIENT) -> Callable[[RunRecords], dict[int, float]]:
    """The mean of a client's value over the rounds, by its rank then."""

    def mean(run: RunRecords) -> dict[int, float]:
        found: dict[int, list[float]] = defaultdict(list)
        for record in run.rounds:
            for client in record["clients"]:
                if (v := value(record, client)) is not None:
                    found[client["rank"]].append(v)
        return {rank: fmean(values) for rank, values in sorted(found.items())}

    return mean


def _points(
    runs: Sequence[RunRecords], of: Callable[[RunRecords], dict[int, float]]
) -> list[Point]:
    """Means over seeds; `round` is the slot or the rank."""
    found = [of(run) for run in counted(runs)]
    keys = sorted({key for one in found for key in one})
    values = {key: estimate([one[key] for one in found if key in one]) for key in keys}
    return [Point(key, 1.0, e) for key, e in values.items() if e is not None]


def _sides(record: Round) -> list[tuple[float, float]]:
    """(before, after) of every client that was probed."""
    return [(b, a) for p in record.get("probes", []) if (b := p["before"]) is not None
            and (a := p["after"]) is not None]  # fmt: skip


def _change(judged: Metric, record: Round) -> float | None:
    pairs = _sides(record)
    return fmean(judged.gain(before, after) for before, after in pairs) if pairs else None


def _probed(side: str) -> Callable[[Round], float | None]:
    def value(record: Round) -> float | None:
        pairs = _sides(record)
        return fmean(p[side == "after"] for p in pairs) if pairs else None

    return value


def _in_units(value: Estimate | None, judged: Metric) -> str:
    if value is None:
        return NOTHING
    half = "" if value.half is None else f" ± {number(judged.scale * value.half, 2)}"
    mean = f"{judged.scale * value.mean:+.{2 if judged.share else 4}f}"
    return f"{mean}{half} {judged.unit}".replace("-", "−")
