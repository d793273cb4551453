"""The figures that compare: accuracy, loss, traffic, accuracy by rank, labels by client."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Literal

from polyrank.report import figures
from polyrank.report.clients import last_ranks
from polyrank.report.figures import Heat, Line, Panel
from polyrank.report.format import Round
from polyrank.report.records import MB, RunRecords
from polyrank.report.statistics import Estimate, Groups, Point, counted, curve, estimate
from polyrank.report.style import colour, dash, indices
from polyrank.report.words import count, megabytes, number, percent, with_interval

Metric = Literal["accuracy", "loss"]
FAR = 8  # times as many MB as the least: beyond that the MB axis is logarithmic


def curves(groups: Groups) -> Any | None:
    """Accuracy and loss, by round and by MB sent."""
    found = {
        metric: {label: curve(runs, _measured(metric)) for label, runs in groups.items()}
        for metric in ("accuracy", "loss")
    }
    if not any(found["accuracy"].values()) and not any(found["loss"].values()):
        return None
    panels = [
        _panel(found[metric], metric, by_mb)
        for metric in ("accuracy", "loss")
        for by_mb in (False, True)
    ]
    return figures.lines(panels, columns=2)


def lines(
    points: dict[str, list[Point]],
    tell: Callable[[Estimate], str],
    by_mb: bool = False,
    scale: float = 1,
    limits: tuple[float, float] = (0, float("inf")),
) -> list[Line]:
    """A line per label with its band; `tell` words a value for the hover."""
    order = indices(points)
    drawn = []
    for label, along in points.items():
        along = [p for p in along if p.mb > 0 or not by_mb or not _far(points)]
        banded = any(p.value.half is not None for p in along)
        low = [scale * min(max(p.value.low, limits[0]), limits[1]) for p in along]
        high = [scale * min(max(p.value.high, limits[0]), limits[1]) for p in along]
        line = Line(
            label,
            [p.mb if by_mb else p.round for p in along],
            [scale * p.value.mean for p in along],
            [f"{label}\nround {p.round}, {megabytes(p.mb)} MB\n{tell(p.value)}" for p in along],
            colour(order[label]),
            dash(order[label]),
            low if banded else (),
            high if banded else (),
        )
        drawn.append(line)
    return [line for line in drawn if line.x]


def by_rank(groups: Groups) -> Any | None:
    """Final accuracy of the clients' own models against their rank."""
    panels = []
    for key, title in (
        ("accuracy", "Model of a client, on the whole test set"),
        ("own_accuracy", "Model of a client, under its own label mix"),
    ):
        points = {label: _ranked(runs, key) for label, runs in groups.items()}
        ranks = sorted({p.round for along in points.values() for p in along})
        if not ranks:
            return None
        drawn = [_of_rank(line) for line in lines(points, _accuracy, scale=100, limits=(0, 1))]
        panels.append(Panel(title, "LoRA rank", "accuracy (%)", drawn, log_x=True, ticks=ranks))
    return figures.lines(panels, columns=2)


def traffic(groups: Groups) -> Any | None:
    """MB per run by way and content, mean over seeds."""
    if not any(run.up and run.up[-1] for runs in groups.values() for run in runs):
        return None
    names = list(groups)
    parts = {}
    for way, ahead in (("up", "uploads"), ("down", "downloads")):
        for part, shade in _SHADES[way].items():
            values = [fmean(_mb(run, way, part) for run in counted(groups[n])) for n in names]
            if any(values):
                parts[f"{ahead}: {part}"] = (shade, values)
    return figures.stacks(names, parts, "MB")


def labels_by_client(run: RunRecords) -> Any | None:
    """How many examples of each class every client holds."""
    held = {c["id"]: c for c in run.run["clients"]}
    ranks = {id: rank for id, rank in last_ranks(run).items() if id in held}
    classes = run.run["classes"]
    if not ranks or not classes:
        return None
    z = [[float(held[id]["labels"][k]) for id in ranks] for k in range(len(classes))]
    text = [
        [
            f"client {id}, rank {ranks[id]}\n{name}: {n:.0f} of {held[id]['examples']} examples"
            for id, n in zip(ranks, row, strict=True)
        ]
        for name, row in zip(classes, z, strict=True)
    ]
    names = [f"{id} (r {rank})" for id, rank in ranks.items()]
    heat = Heat("", "client (its rank)", "", names, classes, z, text)
    return figures.heats([heat], 1, "examples")


_SHADES = {
    "up": {"factors": "#0072B2", "dense": "#56B4E9", "framing": "#c3dcee"},
    "down": {"factors": "#D55E00", "dense": "#E69F00", "framing": "#f6dcae"},
}


def _mb(run: RunRecords, way: str, part: str) -> float:
    sent = [c["up"] if way == "up" else c["down"] for r in run.rounds for c in r["clients"]]
    if part == "framing":
        return sum(b["total"] - b["factors"] - b["dense"] for b in sent) / MB
    return sum(b["factors"] if part == "factors" else b["dense"] for b in sent) / MB


def _measured(metric: Metric) -> Callable[[Round], float | None]:
    return lambda record: record["test"][metric] if record["test"] else None


def _panel(points: dict[str, list[Point]], metric: Metric, by_mb: bool) -> Panel:
    share = metric == "accuracy"
    drawn = lines(
        points,
        _accuracy if share else _loss,
        by_mb,
        100 if share else 1,
        (0, 1) if share else (0, float("inf")),
    )
    along = "MB sent" if by_mb else "round"
    log = by_mb and _far(points)
    unit = "MB sent, up + down, all clients" + (" (log scale)" if log else "")
    return Panel(
        f"Test {metric} by {along}",
        unit if by_mb else "round",
        "test accuracy (%)" if share else "test loss (nats)",
        drawn,
        log,
        span=_span(drawn),
    )


def _far(points: dict[str, list[Point]]) -> bool:
    totals = [along[-1].mb for along in points.values() if along and along[-1].mb > 0]
    return bool(totals) and max(totals) > FAR * min(totals)


def _span(drawn: Sequence[Line]) -> tuple[float, float] | None:
    """The lines with some air: a wide band may leave the panel, the lines may not."""
    values = [y for line in drawn for y in line.y if y is not None]
    if not values or not any(line.low for line in drawn):
        return None
    air = 0.15 * (max(values) - min(values)) or 1.0
    return max(min(values) - air, 0.0), max(values) + air


def _accuracy(value: Estimate) -> str:
    return f"accuracy {with_interval(value, digits=2)} ({count(value.n, 'seed')})"


def _loss(value: Estimate) -> str:
    half = "" if value.half is None else f" ± {number(value.half)}"
    return f"loss {number(value.mean, 5)}{half} ({count(value.n, 'seed')})"


def _ranked(runs: Sequence[RunRecords], key: str) -> list[Point]:
    """Mean accuracy over the clients of each rank, then over seeds; `round` is the rank."""
    found: dict[int, list[float]] = defaultdict(list)
    for run in counted(runs):
        here: dict[int, list[float]] = defaultdict(list)
        for client in run.final["clients"] if run.final else ():
            value = client["accuracy"] if key == "accuracy" else client["own_accuracy"]
            if value is not None:
                here[client["rank"]].append(value)
        for rank, values in here.items():
            found[rank].append(fmean(values))
    return [Point(r, 1.0, e) for r, v in sorted(found.items()) if (e := estimate(v)) is not None]


def _of_rank(line: Line) -> Line:
    text = [
        f"{line.name}\nrank {x:g}\nmean over its clients: {percent(y and y / 100, 2)}"
        for x, y in zip(line.x, line.y, strict=True)
    ]
    return Line(line.name, line.x, line.y, text, line.colour, line.dash, line.low, line.high)
