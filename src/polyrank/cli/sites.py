"""What a federation looks like in a terminal."""

import time

from rich.console import Group
from rich.table import Table
from rich.text import Text

from polyrank.federation.status import Site, View
from polyrank.report.words import NOTHING, duration, judged, known, megabytes

_NUMBERS = ("rank", "examples", "last seen", "MB up", "MB down")


def pictured(view: View, now: float) -> Group:
    """A heading and a line for each site.

    Args:
        view: the federation.
        now: seconds since 1970.
    """
    table = Table(box=None, pad_edge=False)
    for name in ("site", "client"):
        table.add_column(name, no_wrap=True)
    for name in _NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state")
    for site in view.sites:
        table.add_row(*map(Text, _cells(site, now)))
    return Group(Text(_heading(view, now), "bold"), table)


def _heading(view: View, now: float) -> str:
    of = "" if view.rounds is None else f" of {view.rounds}"
    parts = [
        f"{view.folder}: {view.state}",
        f"round {view.round}{of}",
        *([judged(view.test)] if view.test is not None else []),
        *([_remaining(view.end, now)] if view.end is not None else []),
    ]
    return ", ".join(parts)


def _remaining(end: float, now: float) -> str:
    if end <= now:
        return "end expected any moment"
    clock = time.strftime("%H:%M", time.localtime(end))
    return f"end expected at {clock} (in {duration(end - now)})"


def _cells(site: Site, now: float) -> tuple[str, ...]:
    seen = NOTHING if site.seen is None else f"{duration(max(0.0, now - site.seen))} ago"
    return (
        site.name,
        site.client,
        known(site.rank),
        known(site.examples),
        seen,
        megabytes(site.up),
        megabytes(site.down),
        site.state,
    )
