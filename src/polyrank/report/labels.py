"""Words in a figure: escaped, because plotly reads HTML in them, and cut to fit."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from html import escape

LONG = 26  # characters of a name that a legend or axis shows


def plain(text: str) -> str:
    """Text that plotly shows as it is, with its line breaks."""
    return escape(text, quote=False).replace("\n", "<br>")


def distinct(names: Sequence[str]) -> list[str]:
    """Names for a category axis, cut short unless that makes two of them one."""
    cut = [short(name) for name in names]
    return cut if len(set(cut)) == len(cut) else [plain(name) for name in names]


def short(text: str, limit: int = LONG) -> str:
    """The beginning of a text, as `plain`."""
    return plain(text if len(text) <= limit else text[: limit - 1] + "…")


def alike(values: Mapping[str, Hashable]) -> list[list[str]]:
    """Names in groups of one value each, in the order of each group's first name."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, value in values.items():
        groups[value].append(name)
    return list(groups.values())


def together(names: Sequence[str]) -> str:
    """'fedhl', 'fedhl and flora', 'fedhl and 3 more'."""
    first, *others = names
    if not others:
        return first
    return f"{first} and {others[0] if len(others) == 1 else f'{len(others)} more'}"
