"""The figures that compare: accuracy, loss, traffic, results by rank, labels by client."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from polyrank.report import clients, figures, maps
from polyrank.report.format import Outcome, Round
from polyrank.report.metric import ACCURACY, LOSS, Metric
from polyrank.report.panels import Heat, Line, Panel
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Estimate, Groups, Point, counted, curve, estimate, metric
from polyrank.report.style import colour, dash, indices
from polyrank.report.words import count, megabytes, number, with_interval

FAR = 8  # times as many MB as the least: beyond that the MB axis is logarithmic


def curves(groups: Groups) -> Any | None:
    """Accuracy and loss, by round and by MB sent: first what models are judged by."""
    loss = LOSS if metric(groups) is LOSS else Metric("loss", "loss", higher=False, share=False)
    shown = sorted((ACCURACY, loss), key=lambda m: m.key != metric(groups).key)
    found = {
        m.key: {label: curve(runs, _measured(m)) for label, runs in groups.items()} for m in shown
    }
    if not any(found["accuracy"].values()) and not any(found["loss"].values()):
        return None
    panels = [_panel(found[m.key], m, by_mb) for m in shown for by_mb in (False, True)]
    return figures.lines(panels, columns=2)


def lines(
    points: dict[str, list[Point]],
    tell: Callable[[Estimate], str],
    by_mb: bool = False,
    scale: float = 1.0,
    limits: tuple[float, float] = (0.0, float("inf")),
    at: Callable[[Point], str] = lambda p: f"round {p.round}, {megabytes(p.mb)} MB",
) -> list[Line]:
    """A line per label with its band; `at` and `tell` word a point for the hover."""
    order = indices(points)
    drawn = []
    for label, along in points.items():
        along = [p for p in along if p.mb > 0 or not by_mb or not _far(points)]
        banded = any(p.value.half is not None for p in along)
        low = [scale * min(max(p.value.low, limits[0]), limits[1]) for p in along]
        high = [scale * min(max(p.value.high, limits[0]), limits[1]) for p in along]
        line = Line(
            label,
            [p.mb if by_mb else float(p.round) for p in along],
            [scale * p.value.mean for p in along],
            [f"{label}\n{at(p)}\n{tell(p.value)}" for p in along],
            colour(order[label]),
            dash(order[label]),
            low if banded else (),
            high if banded else (),
        )
        drawn.append(line)
    return [line for line in drawn if line.x]


def plain(value: Estimate) -> str:
    """A value with its interval, for a hover."""
    half = "" if value.half is None else f" ± {number(value.half, 2)}"
    return f"{number(value.mean)}{half}"


def by_rank(groups: Groups) -> Any | None:
    """The clients' own models at the end against their rank."""
    panels, judged = [], metric(groups)
    for value, title in (
        (judged.of, "Model of a client, on the whole test set"),
        (judged.own, "Model of a client, under its own label mix"),
    ):
        points = {label: _ranked(runs, value) for label, runs in groups.items()}
        ranks = sorted({p.round for along in points.values() for p in along})
        if len(ranks) < 2:
            return None
        drawn = of_metric(points, judged, at=lambda p: f"rank {p.round}")
        panels.append(Panel(title, "LoRA rank", judged.axis, drawn, log_x=True, ticks=ranks))
    return figures.lines(panels, columns=2)


def labels_by_client(run: RunRecords) -> Any | None:
    """How many examples of each class every client holds; of many, the mean by rank."""
    held = {c["id"]: c for c in run.run["clients"]}
    found = [(line, own) for line in clients.lines(run)
             if (own := [held[id] for id in line.ids if id in held])]  # fmt: skip
    classes = run.run["classes"]
    if not found or not classes:
        return None
    z = [[fmean(c["labels"][k] for c in own) for _, own in found] for k in range(len(classes))]
    sizes = [fmean(c["examples"] for c in own) for _, own in found]
    text = [
        [
            f"{line.who}\n{name}: {number(n)} of {number(size)} examples"
            for (line, _), n, size in zip(found, row, sizes, strict=True)
        ]
        for name, row in zip(classes, z, strict=True)
    ]
    names = [line.name for line, _ in found]
    heat = Heat("", "client (its rank)", "", names, classes, z, text)
    return maps.heats([heat], 1, "examples")


def _measured(metric: Metric) -> Callable[[Round], float | None]:
    return lambda record: metric.of(record["test"])


def _panel(points: dict[str, list[Point]], metric: Metric, by_mb: bool) -> Panel:
    along = "MB sent" if by_mb else "round"
    log = by_mb and _far(points)
    unit = "MB sent, up + down, all clients" + (" (log scale)" if log else "")
    return Panel(
        f"Test {metric.name} by {along}",
        unit if by_mb else "round",
        f"test {metric.axis}",
        of_metric(points, metric, by_mb),
        log,
        span=_span(of_metric(points, metric)),
    )


def of_metric(
    points: dict[str, list[Point]],
    metric: Metric,
    by_mb: bool = False,
    at: Callable[[Point], str] = lambda p: f"round {p.round}, {megabytes(p.mb)} MB",
) -> list[Line]:
    """Lines of values of a metric."""
    tell = partial(_told, metric)
    return lines(points, tell, by_mb, scale=metric.scale, limits=metric.limits, at=at)


def _far(points: dict[str, list[Point]]) -> bool:
    totals = [along[-1].mb for along in points.values() if along and along[-1].mb > 0]
    return bool(totals) and max(totals) > FAR * min(totals)


def _span(drawn: Sequence[Line]) -> tuple[float, float] | None:
    """The lines with some air: a wide band may leave the panel, the lines may not."""
    values = [y for line in drawn for y in line.y if y is not None]
    if not values:
        return None
    air = 0.1 * (max(values) - min(values)) or 1.0
    return max(min(values) - air, 0.0), max(values) + air


def _told(metric: Metric, value: Estimate) -> str:
    if metric.share:
        return f"{metric.name} {with_interval(value, digits=2)} ({count(value.n, 'seed')})"
    half = "" if value.half is None else f" ± {number(value.half)}"
    return f"{metric.name} {number(value.mean, 5)}{half} ({count(value.n, 'seed')})"


def _ranked(runs: Sequence[RunRecords], of: Callable[[Outcome], float | None]) -> list[Point]:
    """The mean over the clients of each rank, then over seeds; `round` is the rank."""
    found: dict[int, list[float]] = defaultdict(list)
    for run in counted(runs):
        here: dict[int, list[float]] = defaultdict(list)
        for client in run.final["clients"] if run.final else ():
            if (value := of(client)) is not None:
                here[client["rank"]].append(value)
        for rank, values in here.items():
            found[rank].append(fmean(values))
    return [Point(r, 1.0, e) for r, v in sorted(found.items()) if (e := estimate(v)) is not None]
