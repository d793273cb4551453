"""One self-contained page about some runs: it loads nothing, and its tables need no script."""

from collections.abc import Sequence
from pathlib import Path

from polyrank import files
from polyrank.errors import StorageError
from polyrank.report import figures, sections
from polyrank.report.headline import headline, title
from polyrank.report.markup import Html, safe, section, tag
from polyrank.report.records import RunRecords
from polyrank.report.statistics import grouped, summary
from polyrank.report.style import CSS

# The browser itself refuses whatever the page might try to load.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


def write(path: Path, runs: Sequence[RunRecords]) -> None:
    """Write the page about `runs` to `path`, whole or not at all.

    Raises:
        StorageError: as for `page`, or the file cannot be written.
    """
    files.write(path, page(runs).encode())


def page(runs: Sequence[RunRecords]) -> str:
    """The HTML page about `runs`; the same runs give the same page, byte for byte.

    Raises:
        StorageError: no runs, or two runs are the same experiment with the same seed.
    """
    if not runs:
        raise StorageError("there is no run to report; give the folder of at least one run")
    target = _target(runs)
    rows = summary(runs, target)
    unordered = grouped(runs)
    groups = {row.label: unordered[row.label] for row in rows}
    parts = [
        sections.summary(rows, target),
        *(draw(groups) for draw in sections.OF_GROUPS),
    ]
    shown = [(id, name, contents) for id, name, contents in parts if contents]
    links = tag("nav", *(tag("a", name, href=f"#{id}") for id, name, _ in shown))
    boxes = (section(id, name, *contents) for id, name, contents in shown)
    return document(title(runs), tag("main", headline(groups, rows), links, *boxes))


def document(name: str, body: Html) -> str:
    """A page of this title that holds everything it shows."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", name),
        tag("style", Html(CSS)),
        figures.script(),
    )
    return f"<!DOCTYPE html>\n{safe(tag('html', head, tag('body', body), lang='en'))}\n"


def _target(runs: Sequence[RunRecords]) -> float | None:
    """The target accuracy, where all recipes agree on one."""
    targets = {(run.run["recipe"].get("evaluation") or {}).get("target") for run in runs}
    return targets.pop() if len(targets) == 1 else None
