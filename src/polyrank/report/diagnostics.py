"""The figures of what algorithms report: weights by client, N_eff and other numbers."""

from collections.abc import Callable, Sequence
from statistics import fmean
from textwrap import fill
from typing import Any

from polyrank.report import clients, figures, maps
from polyrank.report.aggregation import by_rank
from polyrank.report.clients import OF_CLIENT, last_ranks, truncation
from polyrank.report.format import Round
from polyrank.report.labels import alike, together
from polyrank.report.panels import Heat, Line, Panel
from polyrank.report.plots import lines, plain
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Groups, counted, curve
from polyrank.report.style import GREY
from polyrank.report.words import number


def by_client(groups: Groups, value: OF_CLIENT, name: str) -> Any | None:
    """A heat map of a client's value by round for the labels that report one (first seed).

    Labels with the same values at the same ranks share a map.
    """
    found = {label: _table(counted(runs)[0], value) for label, runs in groups.items()}
    found = {label: z for label, z in found.items() if any(v is not None for row in z for v in row)}
    runs = {label: counted(groups[label])[0] for label in found}
    same = alike({label: (*last_ranks(runs[label]).items(), z) for label, z in found.items()})
    drawn = [_heat(labels, runs[labels[0]], found[labels[0]], name) for labels in same]
    return maps.heats(drawn, min(_COLUMNS, len(drawn)), name) if drawn else None


def _table(run: RunRecords, value: OF_CLIENT) -> tuple[tuple[float | None, ...], ...]:
    """A row for each line, a column for each round in which somebody took part."""
    found = clients.lines(run)
    row = {id: i for i, line in enumerate(found) for id in line.ids}
    columns = []
    for record in run.rounds:
        cells: list[list[float]] = [[] for _ in found]
        for client in record["clients"]:
            if (v := value(record, client)) is not None:
                cells[row[client["id"]]].append(v)
        if record["clients"]:
            columns.append([fmean(cell) if cell else None for cell in cells])
    return tuple(zip(*columns, strict=True))


def _heat(
    labels: Sequence[str], run: RunRecords, z: Sequence[Sequence[float | None]], name: str
) -> Heat:
    found, who = clients.lines(run), fill(", ".join(labels), 60)
    times = [str(r["round"]) for r in run.rounds if r["clients"]]
    text = [
        [
            f"{who}\n{line.who}, round {t}\n{name} {number(v)}"
            for t, v in zip(times, row, strict=True)
        ]
        for line, row in zip(found, z, strict=True)
    ]
    names = [line.name for line in found]
    return Heat(together(labels), "round", "client (its rank)", times, names, z, text)


def reported(groups: Groups) -> Any | None:
    """Every number that algorithms report by round, a panel for each."""
    panels = []
    for key in _numbers(groups):
        points = {label: curve(runs, _info(key)) for label, runs in groups.items()}
        drawn = lines(points, plain, limits=(float("-inf"), float("inf")))
        if key == "n_eff":
            drawn += [_participants(counted(next(iter(groups.values())))[0])]
        title, unit = _TITLES.get(key, (key, key))
        panels.append(Panel(title, "round", unit, drawn, from_zero=_positive(drawn)))
    if (lacking := by_rank(groups, truncation, _LACKING, "E", merge=False)) is not None:
        panels.append(lacking)
    return figures.lines(panels, min(2, len(panels)), height=280) if panels else None


_COLUMNS = 3
_LACKING = "E by rank: what a client lacks of the update"
_TITLES = {
    "n_eff": ("Effective number of clients, N_eff = 1/Σp²", "N_eff"),
    "drift": ("Drift of the mean start, ‖Σ pᵢ(Mᵢ − ΔW)‖ / ‖ΔW‖", "drift"),
    "stack": ("Rank of what everybody folds in", "rank"),
    "residual": ("Rank of what everybody folds in beside the mean", "rank"),
    "bound": ("Truncation term of the convergence bound, Σ pᵢ²Eᵢ", "Σ pᵢ²Eᵢ"),
}


def _info(key: str) -> Callable[[Round], float | None]:
    def value(record: Round) -> float | None:
        found: object = record.get("info", {}).get(key)
        number = isinstance(found, int | float) and not isinstance(found, bool)
        return float(found) if number else None  # type: ignore[arg-type]

    return value


def _numbers(groups: Groups) -> list[str]:
    """Keys with a number in some round, N_eff first."""
    keys = {
        key: None
        for runs in groups.values()
        for record in counted(runs)[0].rounds
        for key in record.get("info", {})
        if _info(key)(record) is not None
    }
    return sorted(keys, key=lambda key: (key != "n_eff", key))


def _participants(run: RunRecords) -> Line:
    taking_part = {r["round"]: len(r["clients"]) for r in run.rounds if r["clients"]}
    text = [f"{n} clients in round {t}" for t, n in taking_part.items()]
    x, y = [float(t) for t in taking_part], [float(n) for n in taking_part.values()]
    return Line("clients in the round", x, y, text, GREY, "dot")


def _positive(drawn: Sequence[Line]) -> bool:
    return all(y is None or y >= 0 for line in drawn for y in line.y)
