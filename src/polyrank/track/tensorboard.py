"""TensorBoard: event files in `tensorboard/` of the run folder."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from polyrank.track.numbers import flat
from polyrank.track.tracker import Subject, Tracker

ROUND, RESULT = "round/seconds", "final/"  # what every round has; what the result's names begin by


class Board:
    """The event files of a run. An event is whole or not there: a round is one event."""

    def __init__(self, subject: Subject) -> None:
        folder = subject.folder / "tensorboard"
        steps = dict(_steps(folder))
        self.last = steps.get(ROUND, -1)
        self.ended = any(tag.startswith(RESULT) for tag in steps)
        self.latest = self.last
        self.writer = SummaryWriter(str(folder))
        if self.last < 0:
            self._describe(subject)

    def log(self, round: int, values: Mapping[str, float]) -> None:
        self.latest = round
        self._write(round, values)

    def end(self, values: Mapping[str, float]) -> None:
        if not self.ended:
            self._write(self.latest, values)

    def close(self, complete: bool) -> None:
        self.writer.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        one = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(Summary(value=one), step)
        self.writer.flush()

    def _add(self, summary: Any, step: int | None = None) -> None:
        self.writer._get_file_writer().add_summary(summary, step)  # type: ignore[no-untyped-call]

    def _describe(self, subject: Subject) -> None:
        """The recipe as a text, and for the tab that compares hyperparameters."""
        text = yaml.safe_dump(dict(subject.recipe), sort_keys=False)
        self.writer.add_text("recipe", f"```yaml\n{text}```", 0)
        settings = {key: _plain(value) for key, value in flat(subject.recipe).items()}
        found = hparams(settings, {f"test/{subject.metric}": None})  # type: ignore[no-untyped-call]
        for summary in found:
            self._add(summary)


def begin(subject: Subject) -> Tracker:
    """The run's event files; one more is begun."""
    return Board(subject)


def _steps(folder: Path) -> Iterator[tuple[str, int]]:
    """(tag, step) of everything in a folder's event files, as far as they can be read."""
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                yield value.tag, event.step


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
