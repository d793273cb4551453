"""A table of the clients: what each holds, did, sent and got."""

from collections.abc import Sequence
from statistics import fmean

from polyrank.report.clients import MANY, History, histories
from polyrank.report.markup import Column, Content, Html, details, join, table, tag
from polyrank.report.metric import Metric
from polyrank.report.rank_table import rank_table
from polyrank.report.records import MB, RunRecords
from polyrank.report.statistics import Groups, counted
from polyrank.report.style import GREY, indices
from polyrank.report.tables import named
from polyrank.report.words import NOTHING, measured, megabytes


def client_tables(groups: Groups) -> Html:
    """A table of the clients (of many: of their ranks) for each label; the first is open."""
    parts = []
    for position, (label, runs) in enumerate(groups.items()):
        run = counted(runs)[0]
        title = join([named(label, indices(groups)[label]), f" (seed {run.seed})"])
        parts.append(details(title, _clients(run), open=position == 0))
    return join(parts)


def _clients(run: RunRecords) -> Html:
    found = histories(run)
    if len(found) > MANY:
        return rank_table(found, run.metric)
    metric, tested = run.metric, any(_validation(client, run.metric) for client in found)
    columns = [
        Column("Client", "key"),
        Column("Rank", "number", "5 → 20: the rank changed on the way"),
        Column("Examples"),
        Column("Labels", "picture", "examples by class; hover for the counts"),
        Column("Rounds", "number", "in which it took part"),
        Column(metric.title, "number", "of the model it holds, on the whole test set"),
        Column("Own mix", "number", "the same, weighted by its own label mix"),
        *([Column("Validation", "number", _VALIDATION)] if tested else []),
        Column("Mean weight", "number", "aggregation weight, mean over its rounds"),
        Column("MB up"),
        Column("MB down"),
    ]
    classes = run.run["classes"]
    return table(columns, [_client_row(client, classes, metric, tested) for client in found])


_VALIDATION = "own examples that it does not train on, in its last round: before → after training"


def _validation(client: History, metric: Metric) -> str:
    told = client.parts[-1].get("metrics", {}) if client.parts else {}
    name = f"val_{metric.key}"
    if name not in told:
        return ""
    return f"{measured(told.get(f'start_{name}'), metric)} → {measured(told[name], metric)}"


def _client_row(
    client: History, classes: Sequence[str], metric: Metric, tested: bool
) -> list[Content]:
    held, end = client.held, client.end
    changed = held is not None and held["rank"] != client.rank
    return [
        client.id,
        f"{held['rank']} → {client.rank}" if held and changed else str(client.rank),
        f"{held['examples']:,}" if held else NOTHING,
        _histogram(classes, held["labels"]) if held else "",
        str(len(client.parts)),
        measured(metric.of(end), metric),
        measured(metric.own(end) if end else None, metric),
        *([_validation(client, metric) or NOTHING] if tested else []),
        f"{fmean(client.weights):.4f}" if client.weights else NOTHING,
        megabytes(sum(c["up"]["total"] for c in client.parts) / MB),
        megabytes(sum(c["down"]["total"] for c in client.parts) / MB),
    ]


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
