"""What is told of adapters: lines, tables and figures, before anybody prints or draws them."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from polyrank.report.panels import Heat, Panel

Kinds = Mapping[str, Sequence[str]]


class Table(NamedTuple):
    """Cells as text; the first column is a name, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Sheet(NamedTuple):
    """All that is told.

    Args:
        title: of the page.
        lines: facts.
        tables: one after another.
        panels: figures of lines; the first is the one that stands for all.
        heat: a map of the layers.
        signed: whether its values may be below zero.
    """

    title: str
    lines: Sequence[str]
    tables: Sequence[Table]
    panels: Sequence[Panel]
    heat: Heat
    signed: bool = False


def kinds(names: Sequence[str]) -> Kinds:
    """Layers by their kind: what comes after the block's number in the name, in order."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"^.*\.\d+\.", "", name), []).append(name)
    return found


def block(name: str) -> str:
    """The number of the block that a layer is in; the same for all where there is none."""
    numbers = re.findall(r"\.(\d+)\.", name)
    return numbers[-1] if numbers else "–"
