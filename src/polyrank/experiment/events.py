"""What a run tells whoever watches it; the run itself prints nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from polyrank.server.loop import Reply


class Began(NamedTuple):
    """A run starts or goes on."""

    label: str
    folder: Path
    done: int
    rounds: int


class Warned(NamedTuple):
    """Something that works, but not as one would wish."""

    line: str


class Replied(NamedTuple):
    """One client of a round has answered."""

    round: int
    expected: int
    reply: Reply


class RoundDone(NamedTuple):
    """A round's record is on disk."""

    record: Mapping[str, Any]


class Ended(NamedTuple):
    """The run is complete; its adapter and report are written."""

    folder: Path


Event = Began | Warned | Replied | RoundDone | Ended
Watch = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""
