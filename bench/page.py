"""The page of results (docs/performance.md), from what a run wrote."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.marks import MARKS

HEAD = """# Performance

Written by `make bench`; do not edit. Every section was measured in one run, beside peers that are
written out in [bench/peers](../bench/peers) as plainly as their own code does it.
`make bench-compare BASE=rev` holds a later state against an earlier one.
"""


def page(found: Mapping[str, Any]) -> str:
    """The whole page: ratios first, then a table for each section."""
    parts = [HEAD, _about(found), _marks(found["ratios"]), _others(found)]
    for section in found["sections"]:
        parts.append(f"## {section['title']}\n\n{_when(section, found['machine'])}")
        parts.append("\n\n".join(section["notes"]))
        parts.append(table(section["rows"]))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a Markdown table; columns in the order in which they first come up."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return "Nothing was measured."
    numbers = {c for c in columns if any(isinstance(row.get(c), int | float) for row in rows)}
    lines = [columns, ["---:" if c in numbers else "---" for c in columns]]
    lines += [[cell(row.get(c)) for c in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: object) -> str:
    """A value in few digits."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        small = value != 0 and abs(value) < 1e-3
        return f"{value:.1e}" if small else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "\\|")


def _about(found: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in found["versions"].items() if v is not None)
    missing = ", ".join(k for k, v in found["versions"].items() if v is None)
    lines = [
        f"- Size of the run: {found['size']}.",
        f"- Machine: {_listed(found['machine'])}, where a section names no other.",
        f"- Versions: {versions}." + (f" Not installed: {missing}." if missing else ""),
    ]
    return "\n".join(lines)


def _listed(machine: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in machine.items())


def _when(section: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """When, with what, where else, and beside which limits a section was measured."""
    there = section.get("machine", machine)
    other = f" on another machine ({_listed(there)})" if there != machine else ""
    limits = section["limits"]
    rates = ", ".join(f"{name} {value / 1e9:.3g}" for name, value in limits["matmul"].items())
    return (
        f"Measured {section['date']} with {section['polyrank'] or 'no known revision'}"
        + other
        + (", interrupted" * section["interrupted"])
        + f". Peak of a matrix product in GFLOP/s: {rates}; copy bandwidth "
        f"{limits['copy'] / 1e9:.3g} GB/s."
    )


def _marks(ratios: Mapping[str, float]) -> str:
    rows = []
    for mark in MARKS:
        value = ratios.get(mark.ratio)
        rows.append({
            "ratio": f"`{mark.ratio}`", "measured": value,
            "mark": ("≥ " if mark.least else "≤ ") + cell(float(mark.value)),
            "met": "not measured" if value is None else "yes" if mark.met(value) else "**no**",
            "what": mark.words,
        })  # fmt: skip
    words = "Read a row as: measured, beside what was promised; a mark that is missed says no."
    return f"## Marks\n\n{words}\n\n{table(rows)}"


def _others(found: Mapping[str, Any]) -> str:
    marked = {mark.ratio for mark in MARKS}
    spread = found["spread"]
    rows = [
        {"ratio": f"`{name}`", "measured": value, "spread": spread.get(name)}
        for name, value in found["ratios"].items() if name not in marked
    ]  # fmt: skip
    words = (
        "Without a mark. Of names with `_over_` less is better, of the others more; the spread is "
        "how far the repetitions lay apart, relative to the median."
    )
    return f"## Other ratios\n\n{words}\n\n{table(rows)}" if rows else ""
