"""The contract of a tracker: a file in this folder, found by its name, that offers `begin`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from polyrank import files

IDS = "track.json"


class Subject(NamedTuple):
    """The run that is tracked.

    Args:
        title: what it is called.
        group: the name that runs of one recipe share.
        folder: the run's, which keeps what a tracker calls it.
        recipe: as the records have it.
        metric: what its models are judged by: accuracy or loss.
    """

    title: str
    group: str
    folder: Path
    recipe: Mapping[str, Any]
    metric: str


@runtime_checkable
class Tracker(Protocol):
    """A run as another program keeps it, begun anew or gone on with."""

    @property
    def last(self) -> int:
        """The last round that it had when it was begun; -1 is none."""
        ...

    def log(self, round: int, values: Mapping[str, float]) -> None:
        """Write a round's numbers, all of them or none."""
        ...

    def end(self, values: Mapping[str, float]) -> None:
        """Write the result's numbers, if they are not there already."""
        ...

    def close(self, complete: bool) -> None:
        """Wait until all is written; a run that is not complete may go on later."""
        ...


def known(folder: Path, tracker: str) -> str | None:
    """What a tracker called this run when it began; None before."""
    return _ids(folder).get(tracker)


def keep(folder: Path, tracker: str, id: str) -> None:
    """Note what a tracker calls this run.

    Raises:
        StorageError: the folder cannot be written.
    """
    ids = {**_ids(folder), tracker: id}
    files.write(folder / IDS, json.dumps(ids, indent=1).encode())


def _ids(folder: Path) -> dict[str, str]:
    path = folder / IDS
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found
