"""The figures of what algorithms report: weights by client, N_eff and other numbers."""

from collections.abc import Callable, Sequence
from typing import Any

from polyrank.report import figures
from polyrank.report.clients import last_ranks
from polyrank.report.format import Round, Trained
from polyrank.report.panels import Heat, Line, Panel
from polyrank.report.plots import lines, plain
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Groups, counted, curve
from polyrank.report.style import GREY
from polyrank.report.words import number

OF_CLIENT = Callable[[Round, Trained], float | None]


def by_client(groups: Groups, value: OF_CLIENT, name: str) -> Any | None:
    """A heat map of a client's value by round for each label that reports one (first seed)."""
    maps = []
    for label, runs in groups.items():
        run = counted(runs)[0]
        ranks = last_ranks(run)
        rounds = [r for r in run.rounds if r["clients"]]
        table = [{c["id"]: value(r, c) for c in r["clients"]} for r in rounds]
        z = [[column.get(id) for column in table] for id in ranks]
        if not any(v is not None for row in z for v in row):
            continue
        text = [
            [
                f"{label}\nclient {id}, rank {rank}, round {r['round']}\n{name} {number(v)}"
                for r, v in zip(rounds, row, strict=True)
            ]
            for (id, rank), row in zip(ranks.items(), z, strict=True)
        ]
        names = [f"{id} (r {rank})" for id, rank in ranks.items()]
        times = [str(r["round"]) for r in rounds]
        maps.append(Heat(label, "round", "client (its rank)", times, names, z, text))
    return figures.heats(maps, min(2, len(maps)), name) if maps else None


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
    return figures.lines(panels, min(2, len(panels)), height=280) if panels else None


_TITLES = {
    "n_eff": ("Effective number of clients, N_eff = 1/Σp²", "N_eff"),
    "drift": ("Distance of the mean start from the state, ‖Σ pᵢTᵢ − ΔW‖", "drift"),
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
