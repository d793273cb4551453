"""The tables of a report; every one is plain HTML that needs no script."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from polyrank.report.clients import MANY
from polyrank.report.markup import Column, Content, Html, join, table, tag
from polyrank.report.metric import Metric
from polyrank.report.statistics import Estimate, Groups, Row, metric
from polyrank.report.style import colour, dash, indices
from polyrank.report.words import (
    NOTHING,
    duration,
    known,
    measured,
    megabytes,
    number,
    percent,
    perplexity,
    ranges,
    with_interval,
)

Absence = tuple[tuple[str, str], int | None]  # (client, reason), round; None is every round


def summary_table(rows: Sequence[Row], target: float | None) -> Html:
    """A line per label, best first; see `statistics.summary` for what the figures mean."""
    order = indices(row.label for row in rows)
    reach = max((r.score.high for r in rows if r.score), default=1.0)
    start = min((r.score.low for r in rows if r.score), default=0.0)
    metric = rows[0].metric
    better = "more than" if metric.higher else "less than"
    columns = [
        Column("Place", "place", "1–2: the intervals allow place 1 or 2, a tie"),
        Column("Algorithm", "name"),
        Column("Seeds"),
        Column(f"Final {metric.name}", "number", "on the test set, mean ± half the 95 % interval"),
        *([] if metric.share else [Column("Perplexity", "number", "e to the loss per token")]),
        Column("", "picture"),
        Column("Gain", "number", f"{metric.name} {better} before training, in {metric.unit}"),
        *([Column(f"Rounds to {_target(target, metric)}")] if target else []),
        Column("MB up", "number", "all clients and rounds; MB = 10⁶ bytes"),
        Column("MB down", "number", "all clients and rounds; MB = 10⁶ bytes"),
        Column("Time", "number", "wall time of a run"),
    ]
    lines = [
        [
            _places(row),
            named(row.label, order[row.label]),
            _seeds(row),
            with_interval(row.score, metric=metric),
            *([] if metric.share else [_perplexity(row.score)]),
            _whisker(row, order[row.label], start, reach),
            with_interval(row.gain, "+", metric=metric).replace("%", "pp"),
            *([_to_target(row)] if target else []),
            megabytes(row.mb_up),
            megabytes(row.mb_down),
            duration(row.seconds),
        ]
        for row in rows
    ]
    return table(columns, lines)


def left_out_table(groups: Groups) -> Html | None:
    """Clients that took no part in a round, and why."""
    rows: list[list[Content]] = []
    for label, runs in groups.items():
        for run in runs:
            idle: list[Absence] = [((i["id"], i["reason"]), None) for i in run.run.get("idle", [])]
            out: list[Absence] = [
                ((i["id"], i["reason"]), r["round"])
                for r in run.rounds
                for i in r.get("left_out", [])
            ]
            for (id, reason), found in groupby(sorted(_merged(idle + out), key=_client), _client):
                rounds = [t for _, t in found]
                when = "all" if None in rounds else ranges(t for t in rounds if t is not None)
                times = NOTHING if None in rounds else str(len(rounds))
                rows.append([label, str(run.seed), id, reason, times, when])
    columns = [
        Column("Algorithm", "name"),
        Column("Seed"),
        Column("Client", "key"),
        Column("Reason", "text"),
        Column("Times"),
        Column("Rounds", "text"),
    ]
    return table(columns, rows) if rows else None


def _merged(absences: list[Absence]) -> list[Absence]:
    """The same; where clients are many, the number that had a reason stands for their ids."""
    who: dict[str, set[str]] = {}
    for (id, reason), _ in absences:
        who.setdefault(reason, set()).add(id)
    if sum(map(len, who.values())) <= MANY:
        return absences
    return [((f"{len(who[reason]):,} clients", reason), t) for (_, reason), t in absences]


def unfinished_table(groups: Groups) -> Html | None:
    """Runs without a final record: how far they came."""
    columns = [
        Column("Run", "name"),
        Column("Algorithm", "name"),
        Column("Seed"),
        Column("Rounds done"),
        Column(f"Last {metric(groups).name}"),
    ]
    rows = [
        [
            run.name,
            label,
            str(run.seed),
            f"{run.done} of {known(run.planned)}",
            measured(run.value, run.metric),
        ]
        for label, runs in groups.items()
        for run in runs
        if not run.complete
    ]
    return table(columns, rows) if rows else None


def differences_table(groups: Groups) -> Html | None:
    """The recipe keys in which the labels differ, seed and names aside."""
    flat = {label: _flat(runs[0].run["recipe"]) for label, runs in groups.items()}
    keys = dict.fromkeys(key for values in flat.values() for key in values)
    own = ("name", "seed", "output.dir")
    varied = [k for k in keys if k not in own and len({v.get(k) for v in flat.values()}) > 1]
    columns = [Column("Algorithm", "name"), *(Column(key, "text") for key in varied)]
    rows = [[label, *(v.get(k, NOTHING) for k in varied)] for label, v in flat.items()]
    return table(columns, rows) if varied else None


def _target(target: float, metric: Metric) -> str:
    return percent(target, 0) if metric.share else number(target)


def _perplexity(value: Estimate | None) -> str:
    return NOTHING if value is None else number(perplexity(value.mean))


def _places(row: Row) -> str:
    if not row.finished:
        return "unfinished"
    if row.places is None:
        return NOTHING
    first, last = row.places
    return str(first) if first == last else f"{first}–{last}"


def _seeds(row: Row) -> Content:
    more = f" + {row.unfinished} unfinished" if row.unfinished and row.finished else ""
    return join([str(row.seeds), tag("span", more, class_="seeds")])


def _to_target(row: Row) -> str:
    if row.missed and not row.finished:
        return "not yet"
    if row.missed:
        return f"not reached {row.missed}/{row.seeds}"
    return NOTHING if (t := row.rounds_to_target) is None else f"{t:.1f}".removesuffix(".0")


def _whisker(row: Row, index: int, start: float, reach: float) -> Content:
    """The mean as a dot and its interval as a bar, on one scale for all rows."""
    if row.score is None:
        return ""

    def at(value: float) -> str:
        return f"{8 + 164 * (value - start) / (reach - start or 1.0):.1f}"

    a = row.score
    rail = tag("line", x1="0", x2="180", y1="9", y2="9", stroke="#e4e7eb")
    bar = tag("line", x1=at(a.low), x2=at(a.high), y1="9", y2="9", stroke=colour(index),
              stroke_width="3", stroke_opacity="0.45", stroke_linecap="round")  # fmt: skip
    dot = tag("circle", cx=at(a.mean), cy="9", r="4.5", fill=colour(index))
    return tag("svg", rail, bar, dot, width="180", height="18", role="img",
               aria_label=with_interval(a, metric=row.metric))  # fmt: skip


def _client(entry: Absence) -> tuple[str, str]:
    return entry[0]


def _flat(recipe: Mapping[str, object], start: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{start}{key}.")
        else:
            flat[start + key] = str(value)
    return flat


def named(label: str, index: int) -> Html:
    """The label beside a sample of its line."""
    marks = {"solid": "", "dash": "7 4", "dot": "2 3"}
    stroke = tag(
        "line",
        x1="0",
        y1="6",
        x2="26",
        y2="6",
        stroke=colour(index),
        stroke_width="3",
        stroke_dasharray=marks[dash(index)],
    )
    sample = tag("svg", stroke, class_="swatch", width="26", height="12", aria_hidden="true")
    return join([sample, label])
