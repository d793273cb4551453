"""One self-contained page about some runs: it loads nothing, and its tables need no script."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from polyrank.report import diagnostics, figures, plots, tables
from polyrank.report.atomic import write_whole
from polyrank.report.clients import first_ranks, truncation, weight
from polyrank.report.markup import Html, details, safe, section, tag
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Groups, Row, counted, grouped, summary
from polyrank.report.style import CSS
from polyrank.report.words import count, listed, ranges, with_interval

# The browser itself refuses whatever the page might try to load.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def write(path: Path, runs: Sequence[RunRecords]) -> None:
    """Write the page about `runs` to `path`, whole or not at all.

    Raises:
        StorageError: as for `page`, or the file cannot be written.
    """
    write_whole(path, page(runs))


def page(runs: Sequence[RunRecords]) -> str:
    """The HTML page about `runs`; the same runs give the same page, byte for byte.

    Raises:
        ValueError: no runs.
        StorageError: two runs are the same experiment with the same seed.
    """
    if not runs:
        raise ValueError("a report needs at least one run")
    target = _target(runs)
    rows = summary(runs, target)
    unordered = grouped(runs)
    groups = {row.label: unordered[row.label] for row in rows}
    sections = [
        _summary(rows, target), _curves(groups), _clients(groups), _update(groups),
        _weights(groups), _left_out(groups), _recipes(groups),
    ]  # fmt: skip
    shown = [(id, title, part) for id, title, part in sections if part]
    links = tag("nav", *(tag("a", title, href=f"#{id}") for id, title, _ in shown))
    body = tag(
        "main", _headline(groups, rows), links, *(section(id, title, *p) for id, title, p in shown)
    )
    return _document(_title(runs), body)


Section = tuple[str, str, list[Html]]  # id, title, contents (none: the section is not shown)


def _document(title: str, body: Html) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(CSS)),
        figures.script(),
    )
    return f"<!DOCTYPE html>\n{safe(tag('html', head, tag('body', body), lang='en'))}\n"


def _headline(groups: Groups, rows: Sequence[Row]) -> Html:
    runs = [run for members in groups.values() for run in members]
    facts = {
        "model": _distinct(_get(run, "model") for run in runs),
        "data": _distinct(_data(run) for run in runs),
        "clients": _distinct(str(len(run.run["clients"])) for run in runs),
        "ranks": _distinct(_ranks(run) for run in runs),
        "rounds": _distinct(str(run.planned or "?") for run in runs),
        "seeds": ranges(run.seed for run in runs),
        "algorithms": str(len(groups)),
        "runs": str(len(runs)),
    }
    cards = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()]
    mixed = [key for key in ("model", "data") if len({_identity(run, key) for run in runs}) > 1]
    warning = f"These runs differ in {listed(mixed)}: accuracies do not compare." if mixed else ""
    return tag(
        "header",
        tag("h1", _title(runs)),
        tag("p", _verdict(rows), class_="verdict"),
        tag("p", warning, class_="warning") if warning else "",
        tag("dl", *cards, class_="facts"),
    )


def _verdict(rows: Sequence[Row]) -> str:
    best = rows[0]
    measured = f"{best.label}: {with_interval(best.accuracy)}"
    if best.accuracy is None:
        return "Nothing has been measured yet."
    if not best.finished:
        return f"No run has finished yet. So far, {measured} accuracy on the test set."
    if len(rows) == 1:
        return f"{measured} accuracy on the test set, {count(best.accuracy.n, 'seed')}."
    if best.places is None:
        return f"Highest accuracy: {measured} (one seed: no interval, so no claim to be best)."
    leaders = [row.label for row in rows if row.places and row.places[0] == 1]
    if len(leaders) > 1:
        return f"A tie: {listed(leaders)}. Highest mean accuracy: {measured}."
    return f"Best: {measured} accuracy on the test set, over {count(best.accuracy.n, 'seed')}."


def _summary(rows: Sequence[Row], target: float | None) -> Section:
    notes = [
        "Final accuracy: mean over seeds ± half of Student's 95 % interval; one seed has none. "
        "Places follow from these intervals: where they touch, places are shared (1–2 is place 1 "
        "or 2), and without an interval there is no place. pp: percentage points. "
        "MB = 10^6 bytes, of all clients over all rounds, as sent.",
    ]
    if any(row.missed for row in rows):
        notes.append("Not reached k/n: k of n runs never had the target accuracy.")
    return "summary", "Summary", [tables.summary_table(rows, target), *map(_note, notes)]


def _curves(groups: Groups) -> Section:
    several = any(len(counted(runs)) > 1 for runs in groups.values())
    bands = " Lines are means over seeds, bands their 95 % intervals." if several else ""
    note = (
        f"Click a name to hide it, double-click to see it alone.{bands}"
        if (several or len(groups) > 1)
        else ""
    )
    drawn = _figure(plots.curves, groups, "plot-curves")
    return (
        "curves",
        "Accuracy, loss and traffic",
        [
            *drawn,
            *([_note(note)] if drawn and note else []),
            *_titled("Traffic of a run", _figure(plots.traffic, groups, "plot-traffic")),
        ],
    )


def _clients(groups: Groups) -> Section:
    run = counted(next(iter(groups.values())))[0]
    held = plots.labels_by_client(run)
    shown = [] if held is None else [figures.html(held, "plot-labels")]
    return (
        "clients",
        "Clients",
        [
            *_titled("Accuracy by rank", _figure(plots.by_rank, groups, "plot-by-rank")),
            *_titled(f"Examples by class (seed {run.seed})", shown),
            tag("h3", "Every client, for the first seed"),
            tables.client_tables(groups),
        ],
    )


def _update(groups: Groups) -> Section:
    note = _note(
        "The global update ΔW. Effective rank is how many directions it really uses; "
        "spectra are of the first seed."
    )
    parts = [
        *_figure(diagnostics.ranks_and_last_spectrum, groups, "plot-ranks"),
        *_titled("Spectrum by round", _figure(diagnostics.spectra, groups, "plot-spectra")),
        *_figure(diagnostics.layers, groups, "plot-layers"),
    ]
    return "update", "Spectrum of the update", [note, *parts] if parts else []


def _weights(groups: Groups) -> Section:
    def weights(groups: Groups) -> Any | None:
        return diagnostics.by_client(groups, weight, "weight")

    def truncations(groups: Groups) -> Any | None:
        return diagnostics.by_client(groups, truncation, "E")

    telling = {
        label: runs
        for label, runs in groups.items()
        if any("n_eff" in r.get("info", {}) for r in runs[0].rounds)
    }
    parts = [
        *_figure(diagnostics.reported, groups, "plot-reported"),
        *_titled(
            "Aggregation weight by client (first seed)", _figure(weights, telling, "plot-weights")
        ),
        *_titled(
            "E: share of the update that a client's rank cuts off (first seed)",
            _figure(truncations, telling, "plot-truncation"),
        ),
    ]
    return "weights", "Weights and diagnostics", [*parts, *_warnings(groups)]


def _left_out(groups: Groups) -> Section:
    runs = [run for members in groups.values() for run in members]
    idle = [
        f"{run.label}, seed {run.seed}: nobody replied in round(s) {ranges(still)}; the model "
        "stayed as it was."
        for run in runs
        if (still := [r["round"] for r in run.rounds if r.get("unchanged")])
    ]
    unfinished, out = tables.unfinished_table(groups), tables.left_out_table(groups)
    return (
        "left-out",
        "Unfinished runs and clients left out",
        [
            *_titled("Runs that have not come to their end", [unfinished] if unfinished else []),
            *_titled("Clients that took no part", [out] if out else []),
            *map(_note, idle),
        ],
    )


def _recipes(groups: Groups) -> Section:
    differences = tables.differences_table(groups)
    parts = _titled("Where the recipes differ", [differences] if differences else [])
    for label, runs in groups.items():
        run = runs[0].run
        parts.append(details(f"Recipe of {label} (seed {run['seed']})", _yaml(run["recipe"])))
    for title, key in (("Versions", "versions"), ("Machine", "machine"), ("Data", "data")):
        said = dict.fromkeys(
            safe(_yaml(run.run.get(key))) for members in groups.values() for run in members
        )
        parts.append(details(title, *map(Html, said)))
    return "recipe", "Recipe and versions", parts


def _figure(draw: Callable[[Groups], Any | None], groups: Groups, id: str) -> list[Html]:
    figure = draw(groups)
    return [] if figure is None else [figures.html(figure, id)]


def _titled(title: str, parts: list[Html]) -> list[Html]:
    return [tag("h3", title), *parts] if parts else []


def _note(text: str) -> Html:
    return tag("p", text, class_="note")


def _warnings(groups: Groups) -> list[Html]:
    """What algorithms warned of: the last warning of each run, and how often there was one."""
    said = []
    for label, runs in groups.items():
        for run in runs:
            found = [(r["round"], w) for r in run.rounds if (w := r.get("info", {}).get("warning"))]
            if found:
                rounds = ranges(t for t, _ in found)
                said.append(f"{label}, seed {run.seed}, round {rounds}: {found[-1][1]}")
    return [tag("p", text, class_="warning") for text in said]


def _yaml(value: object) -> Html:
    return tag("pre", yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _title(runs: Sequence[RunRecords]) -> str:
    names = list(dict.fromkeys(run.name for run in runs))
    return listed(names) if len(names) < 4 else f"{len(runs)} runs"


def _target(runs: Sequence[RunRecords]) -> float | None:
    """The target accuracy, where all recipes agree on one."""
    targets = {(run.run["recipe"].get("evaluation") or {}).get("target") for run in runs}
    return targets.pop() if len(targets) == 1 else None


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
    return yaml.safe_dump(run.run["recipe"].get(key))


def _distinct(values: Iterable[str]) -> str:
    found = [value for value in dict.fromkeys(values) if value]
    return " / ".join(found[:3]) + (" / …" if len(found) > 3 else "") or "–"
