"""The head of a report: what ran, and what came out in one sentence."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from polyrank.report.clients import first_ranks
from polyrank.report.markup import Html, tag
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Groups, Row
from polyrank.report.words import NOTHING, count, known, listed, ranges, with_interval


def headline(groups: Groups, rows: Sequence[Row]) -> Html:
    runs = [run for members in groups.values() for run in members]
    facts = {
        "model": _distinct(_get(run, "model") for run in runs),
        "data": _distinct(_data(run) for run in runs),
        "clients": _distinct(str(len(run.run["clients"])) for run in runs),
        "ranks": _distinct(_ranks(run) for run in runs),
        "rounds": _distinct(known(run.planned) for run in runs),
        "seeds": ranges(run.seed for run in runs),
        "algorithms": str(len(groups)),
        "runs": str(len(runs)),
    }
    cards = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    mixed = [key for key in ("model", "data") if len({_identity(run, key) for run in runs}) > 1]
    warning = f"These runs differ in {listed(mixed)}: results do not compare." if mixed else ""
    return tag(
        "header",
        tag("h1", title(runs)),
        tag("p", _verdict(rows), class_="verdict"),
        tag("p", warning, class_="warning") if warning else "",
        tag("dl", *cards, class_="facts"),
    )


def _verdict(rows: Sequence[Row]) -> str:
    best = rows[0]
    metric = best.metric
    result = f"{with_interval(best.score, metric=metric)} {metric.name}"
    measured = f"{best.label}: {with_interval(best.score, metric=metric)}"
    most = "Highest" if metric.higher else "Lowest"
    if best.score is None:
        return "Nothing has been measured yet."
    if not best.finished:
        return f"No run has finished yet. So far, {best.label}: {result} on the test set."
    finished = [row for row in rows if row.finished]
    if len(finished) == 1:
        return f"{best.label}: {result} on the test set, {count(best.score.n, 'seed')}."
    if any(row.places is None for row in finished):
        return (
            f"{most} {metric.name}: {measured} (one seed has no interval, so no claim to be best)."
        )
    leaders = [row.label for row in finished if row.places and row.places[0] == 1]
    if len(leaders) > 1:
        return f"A tie: {listed(leaders)}. {most} mean {metric.name}: {measured}."
    return f"Best: {best.label}: {result} on the test set, over {count(best.score.n, 'seed')}."


def title(runs: Sequence[RunRecords]) -> str:
    names = list(dict.fromkeys(run.name for run in runs))
    return listed(names) if len(names) < 4 else f"{len(runs)} runs"


def _get(run: RunRecords, *path: str) -> str:
    value: Any = run.run["recipe"]
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _data(run: RunRecords) -> str:
    name = _get(run, "data", "name") or _get(run, "data", "path")
    parts = [name, _get(run, "data", "partition"), count(len(run.run["classes"]), "class")]
    return ", ".join(part for part in parts if part).replace("classs", "classes")


def _ranks(run: RunRecords) -> str:
    mix = sorted(Counter(first_ranks(run).values()).items())
    return ", ".join(f"{n} × {rank}" for rank, n in mix)


def _identity(run: RunRecords, key: str) -> str:
    return json.dumps(run.run["recipe"].get(key), sort_keys=True)


def _distinct(values: Iterable[str]) -> str:
    found = [value for value in dict.fromkeys(values) if value]
    return " / ".join(found[:3]) + (" / …" if len(found) > 3 else "") or NOTHING
