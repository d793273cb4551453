"""The sections of a report, each as (id, title, contents); one without contents is not shown."""

from collections.abc import Callable, Sequence
from typing import Any

import yaml

from polyrank.report import (
    aggregation,
    diagnostics,
    figures,
    plots,
    spectra,
    tables,
    traffic,
    writing,
)
from polyrank.report.client_tables import client_tables
from polyrank.report.clients import MANY, norm, truncation, weight
from polyrank.report.markup import Html, details, safe, tag
from polyrank.report.statistics import Groups, Row, counted, metric
from polyrank.report.words import ranges

Section = tuple[str, str, list[Html]]
FEW = 4  # labels of which every heat map is shown at once


def summary(rows: Sequence[Row], target: float | None) -> Section:
    metric = rows[0].metric
    points = "pp: percentage points. " if metric.share else "Lower is better. "
    notes = [
        f"Final {metric.name}: mean over seeds ± half of Student's 95 % interval; one seed has "
        "none. Places follow from these intervals: where they touch, places are shared (1–2 is "
        f"place 1 or 2), and without an interval there is no place. {points}"
        "MB = 10⁶ bytes, of all clients over all rounds, as sent.",
    ]
    if any(row.missed and row.finished for row in rows):
        notes.append(f"Not reached k/n: k of n runs never had the target {metric.name}.")
    return "summary", "Summary", [tables.summary_table(rows, target), *map(_note, notes)]


def curves(groups: Groups) -> Section:
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
            *_titled("Traffic of a run", _figure(traffic.traffic, groups, "plot-traffic")),
        ],
    )


def clients(groups: Groups) -> Section:
    run = counted(next(iter(groups.values())))[0]
    held = plots.labels_by_client(run)
    shown = [] if held is None else [figures.html(held, "plot-labels")]
    every = "Every client" if len(run.run["clients"]) <= MANY else "The clients by rank"
    return (
        "clients",
        "Clients",
        [
            *_titled(
                f"{run.metric.name.capitalize()} by rank",
                _figure(plots.by_rank, groups, "plot-by-rank"),
            ),
            *_titled(f"Examples by class (seed {run.seed})", shown),
            *_drawn(groups),
            tag("h3", f"{every}, for the first seed"),
            client_tables(groups),
        ],
    )


def _drawn(groups: Groups) -> list[Html]:
    """Of how many clients the models were measured, where those were not all."""
    ends = [run.final for runs in groups.values() for run in runs if run.final]
    told = {
        (len(e["clients"]), e.get("of", 0)) for e in ends if 0 < len(e["clients"]) < e.get("of", 0)
    }
    return [
        _note(f"Measured at the end: the models of {n:,} of {of:,} clients, drawn at random by "
              "seed (evaluation.clients); tables and figures are of these.")
        for n, of in sorted(told)
        if 0 < n < of
    ]  # fmt: skip


def update(groups: Groups) -> Section:
    note = _note(
        "The global update ΔW. Effective rank is how many directions it really uses; "
        "spectra are of the first seed."
    )
    parts = [
        *_figure(spectra.ranks_and_last_spectrum, groups, "plot-ranks"),
        *_titled("Spectrum by round", _figure(spectra.spectra, groups, "plot-spectra")),
        *_figure(spectra.layers, groups, "plot-layers"),
    ]
    return "update", "Spectrum of the update", [note, *parts] if parts else []


def weights(groups: Groups) -> Section:
    def weights(groups: Groups) -> Any | None:
        return diagnostics.by_client(groups, weight, "weight")

    def truncations(groups: Groups) -> Any | None:
        return diagnostics.by_client(groups, truncation, "E")

    def norms(groups: Groups) -> Any | None:
        return diagnostics.by_client(groups, norm, "norm")

    telling = {
        label: runs
        for label, runs in groups.items()
        if any("n_eff" in r.get("info", {}) for run in runs for r in run.rounds)
    }
    parts = [
        *_figure(aggregation.shares, telling, "plot-shares"),
        *_figure(diagnostics.reported, groups, "plot-reported"),
        *_folded("Aggregation weight by client", _figure(weights, telling, "plot-weights"), groups),
        *_folded(
            "E: share of the update that a client does not hold, summed over layers",
            _figure(truncations, telling, "plot-truncation"),
            groups,
        ),
        *_folded(
            "Norm of what each client's factors changed by",
            _figure(norms, groups, "plot-norms"),
            groups,
        ),
    ]
    return "weights", "Weights and diagnostics", [*parts, *_warnings(groups)]


def probes(groups: Groups) -> Section:
    parts = [
        *_figure(aggregation.change, groups, "plot-change"),
        *_titled(
            f"{metric(groups).title} just before and just after",
            _figure(aggregation.before_and_after, groups, "plot-probes"),
        ),
    ]
    difference = "after − before" if metric(groups).higher else "before − after"
    note = _note(
        "The clients of the highest ranks, measured when they have trained, and again with what "
        f"the server makes of it: {difference}, in {metric(groups).unit}. Red: the aggregation "
        "undoes what they learned."
    )
    return "probes", "Before and after aggregation", [note, *parts] if parts else []


def written(groups: Groups) -> Section:
    return "written", "What the model writes", writing.written(groups)


def left_out(groups: Groups) -> Section:
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


def recipes(groups: Groups) -> Section:
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


def _folded(title: str, parts: list[Html], groups: Groups) -> list[Html]:
    """Parts under a title that opens on a click; they are open where there are few labels."""
    return [details(f"{title} (first seed)", *parts, open=len(groups) <= FEW)] if parts else []


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


OF_GROUPS = (curves, written, clients, probes, weights, update, left_out, recipes)
