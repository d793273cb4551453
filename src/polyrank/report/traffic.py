"""The figure of the bytes on the wire, by way and content."""

from statistics import fmean
from typing import Any

from polyrank.report import figures
from polyrank.report.records import MB, RunRecords, Way, sent
from polyrank.report.statistics import Groups, counted


def traffic(groups: Groups) -> Any | None:
    """MB per run by way and content, mean over seeds."""
    if not any(run.up and run.up[-1] for runs in groups.values() for run in runs):
        return None
    names = list(groups)
    parts = {}
    ways: dict[Way, str] = {"up": "uploads", "down": "downloads"}
    for way, ahead in ways.items():
        for part, shade in _SHADES[way].items():
            values = [fmean(_mb(run, way, part) for run in counted(groups[n])) for n in names]
            if any(values):
                parts[f"{ahead}: {part}"] = (shade, values)
    return figures.stacks(names, parts, "MB")


_SHADES = {
    "up": {"factors": "#0072B2", "dense": "#56B4E9", "framing": "#c3dcee"},
    "down": {"factors": "#D55E00", "dense": "#E69F00", "framing": "#f6dcae"},
}


def _mb(run: RunRecords, way: Way, part: str) -> float:
    messages = [b for r in run.rounds for b in sent(r, way)]
    if part == "framing":
        return sum(b["total"] - b["factors"] - b["dense"] for b in messages) / MB
    return sum(b["factors"] if part == "factors" else b["dense"] for b in messages) / MB
