"""Where in a file or on the command line each key of a recipe was said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyrank.errors import RecipeError

Keys = tuple[str, ...]  # ("local", "lr") is the key local.lr


@dataclass(frozen=True, slots=True)
class Place:
    """A spot to point at: `demo.yaml:7`, or a source that has no lines."""

    source: str
    line: int | None = None
    column: int = 0

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"

    @property
    def order(self) -> tuple[bool, int, int]:
        """Files from top to bottom, then what has no lines."""
        return self.line is None, self.line or 0, self.column


COMMAND_LINE = Place("command line")


@dataclass(frozen=True, slots=True)
class Document:
    """A recipe before it is validated: plain values, and the place of every key in them."""

    values: dict[Any, Any]
    places: Mapping[Keys, Place]
    source: str

    def place(self, keys: Sequence[str]) -> Place:
        """The place of a key, or of its nearest parent that is there, or the file."""
        parents = (tuple(keys[:depth]) for depth in range(len(keys), 0, -1))
        return next((self.places[at] for at in parents if at in self.places), Place(self.source))


class MistakeError(RecipeError):
    """A recipe's mistake that knows its place: `demo.yaml:7: lora.ranks: 0 is not a rank`."""

    def __init__(self, place: Place | str, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.place = str(place)

    def __str__(self) -> str:
        return f"{self.place}: {super().__str__()}"


def dotted(keys: Sequence[str]) -> str:
    """The key as one writes it on the command line, kept to one line."""
    return ".".join(key if key.isprintable() else repr(key) for key in keys)


def shown(value: Any) -> str:
    """A value as YAML spells it, kept to one short line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:58]}…{text[-1]}"
