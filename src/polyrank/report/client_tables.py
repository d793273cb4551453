"""A table of the clients: what each holds, did, sent and got."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from polyrank.report.clients import first_ranks, last_ranks, weight
from polyrank.report.format import Outcome, Trained
from polyrank.report.markup import Column, Content, Html, details, join, table, tag
from polyrank.report.records import MB, RunRecords
from polyrank.report.statistics import Groups, counted
from polyrank.report.style import GREY, indices
from polyrank.report.tables import named
from polyrank.report.words import NOTHING, megabytes, percent


def client_tables(groups: Groups) -> Html:
    """A table of the clients for each label; the first is open."""
    parts = []
    for position, (label, runs) in enumerate(groups.items()):
        run = counted(runs)[0]
        title = join([named(label, indices(groups)[label]), f" (seed {run.seed})"])
        parts.append(details(title, _clients(run), open=position == 0))
    return join(parts)


def _clients(run: RunRecords) -> Html:
    columns = [
        Column("Client", "key"),
        Column("Rank", "number", "5 → 20: the rank changed on the way"),
        Column("Examples"),
        Column("Labels", "picture", "examples by class; hover for the counts"),
        Column("Rounds", "number", "in which it took part"),
        Column("Accuracy", "number", "of the model it holds, on the whole test set"),
        Column("Own mix", "number", "the same, weighted by its own label mix"),
        Column("Mean weight", "number", "aggregation weight, mean over its rounds"),
        Column("MB up"),
        Column("MB down"),
    ]
    ends = {c["id"]: c for c in run.final["clients"]} if run.final else {}
    did: dict[str, list[Trained]] = {id: run.parts(id) for id in last_ranks(run)}
    weights = _mean_weights(run)
    return table(columns, [_client_row(run, id, ends, did[id], weights) for id in did])


def _client_row(
    run: RunRecords,
    id: str,
    ends: Mapping[str, Outcome],
    did: Sequence[Trained],
    weights: Mapping[str, float],
) -> list[Content]:
    held = next((c for c in run.run["clients"] if c["id"] == id), None)
    end = ends.get(id)
    first, last = first_ranks(run).get(id), last_ranks(run)[id]
    return [
        id,
        str(last) if first in (last, None) else f"{first} → {last}",
        f"{held['examples']:,}" if held else NOTHING,
        _histogram(run.run["classes"], held["labels"]) if held else "",
        str(len(did)),
        percent(end["accuracy"] if end else None),
        percent(end["own_accuracy"] if end else None),
        f"{weights[id]:.4f}" if id in weights else NOTHING,
        megabytes(sum(c["up"]["total"] for c in did) / MB),
        megabytes(sum(c["down"]["total"] for c in did) / MB),
    ]


def _mean_weights(run: RunRecords) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in run.rounds:
        for client in record["clients"]:
            if (w := weight(record, client)) is not None:
                found.setdefault(client["id"], []).append(w)
    return {id: fmean(values) for id, values in found.items()}


def _histogram(classes: Sequence[str], labels: Sequence[int]) -> Html:
    """A bar per class, the fullest class as high as the line."""
    most, width = max(labels, default=0) or 1, max(2, min(9, 150 // max(len(labels), 1)))
    bars = "".join(
        f"M{k * width} 20v-{20 * n / most:.1f}h{width - 1}V20z" for k, n in enumerate(labels) if n
    )
    words = ", ".join(f"{name} {n}" for name, n in zip(classes, labels, strict=False) if n)
    span = str(width * len(labels))
    floor = tag("line", x1="0", x2=span, y1="20.5", y2="20.5", stroke=GREY, stroke_width="0.5")
    return tag("svg", tag("title", words), floor, tag("path", d=bars, fill="#0072B2"),
               width=span, height="21", role="img")  # fmt: skip
