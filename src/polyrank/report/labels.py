"""Words in a figure: escaped, because plotly reads HTML in them, and cut to fit."""

from collections.abc import Sequence
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
