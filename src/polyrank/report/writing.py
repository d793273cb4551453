"""What language models write: results on held-out prompts, and some of the answers."""

from polyrank.report.format import Generated
from polyrank.report.markup import Column, Content, Html, details, join, table, tag
from polyrank.report.records import RunRecords
from polyrank.report.statistics import Groups, counted, estimate
from polyrank.report.style import indices
from polyrank.report.tables import named
from polyrank.report.words import NOTHING, with_interval

SIDES = ("before", "after")
NOTE = (
    "Greedy answers of the global model to held-out prompts: shares of the examples that are right "
    "(rouge-l: mean F1), means over seeds ± half of the 95 % interval."
)


def written(groups: Groups) -> list[Html]:
    """All of it; nothing where no model was asked."""
    found, some = results(groups), samples(groups)
    told = [tag("p", NOTE, class_="note"), found] if found else []
    return [*told, *([some] if some else [])]


def results(groups: Groups) -> Html | None:
    """A line per label: every measure before the training and after it, means over seeds."""
    names = dict.fromkeys(
        name for runs in groups.values() for run in runs
        for told in _sides(run).values() for name in (told["metrics"] if told else ())
    )  # fmt: skip
    if not names:
        return None
    columns = [
        Column("Algorithm", "name"),
        Column("Examples"),
        *(Column(f"{name}, {side}") for name in names for side in SIDES),
    ]
    order, rows = indices(groups), list[list[Content]]()
    for label, runs in groups.items():
        sides = [_sides(run) for run in counted(runs)]
        found = [told for own in sides for told in own.values() if told]
        cells = [
            with_interval(
                estimate([t["metrics"][name] for own in sides
                          if (t := own[side]) and name in t["metrics"]])
            )
            for name in names for side in SIDES
        ]  # fmt: skip
        examples = str(max(t["examples"] for t in found)) if found else NOTHING
        rows.append([named(label, order[label]), examples, *cells])
    return table(columns, rows)


def samples(groups: Groups) -> Html | None:
    """Answers of the first seed of each label, before and after, beside the reference."""
    parts: list[Html] = []
    for label, runs in groups.items():
        run = counted(runs)[0]
        sides = _sides(run)
        shown = [own["samples"] for side in SIDES if (own := sides[side])]
        for i, one in enumerate(shown[0] if shown else ()):
            told = {"prompt": one["prompt"], "reference": one["reference"]}
            for side in SIDES:
                own = sides[side]
                told[side] = own["samples"][i]["answer"] if own else NOTHING
            lines = [
                join([tag("dt", name), tag("dd", tag("pre", text))]) for name, text in told.items()
            ]
            title = f"{label} (seed {run.seed}): answer {i + 1}"
            parts.append(details(title, tag("dl", *lines), open=not parts))
    return join(parts) if parts else None


def _sides(run: RunRecords) -> dict[str, Generated | None]:
    """What was written before the training, and after it."""
    first = run.rounds[0].get("generated") if run.rounds else None
    last = run.final.get("generated") if run.final else None
    return {"before": first, "after": last}
