"""A run and those who follow it: what the records have and a tracker lacks is written to it.

A tracker that fails is dropped with one line, and the run goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from polyrank.errors import RecipeError, line
from polyrank.report.records import WAYS, RunRecords
from polyrank.track.numbers import of_final, of_round
from polyrank.track.tracker import Subject, Tracker

Tell = Callable[[str], None]


class Followers:
    """The trackers of a run that have not failed.

    Args:
        tell: hears one line of each that does.
    """

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.trackers: dict[str, Tracker] = {}
        self.sent = dict.fromkeys(WAYS, 0.0)  # MB so far
        self.complete = False

    def begin(self, name: str, subject: Subject) -> None:
        """One more, which is told nothing yet."""
        with self._unless_it_fails(name):
            self.trackers[name] = import_module(f"polyrank.track.{name}").begin(subject)

    def hear(self, record: Any) -> None:
        """A round's record, in the order of rounds: written to those that lack it."""
        if not self.trackers:
            return
        values = of_round(record)
        for way in WAYS:
            self.sent[way] += values[f"traffic/{way}_mb"]
            values[f"traffic/{way}_total_mb"] = self.sent[way]
        for name, one in list(self.trackers.items()):
            if record["round"] > one.last:
                with self._unless_it_fails(name):
                    one.log(record["round"], values)

    def end(self, record: Any) -> None:
        """The final record; None where a run has none."""
        self.complete = True
        for name, one in list(self.trackers.items()):
            with self._unless_it_fails(name):
                one.end(of_final(record) if record else {})

    def close(self) -> None:
        """Wait until all is written."""
        for name, one in list(self.trackers.items()):
            with self._unless_it_fails(name):
                one.close(self.complete)

    @contextmanager
    def _unless_it_fails(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # another program's, of any kind
            self.trackers.pop(name, None)
            self.tell(
                f"{name} follows this run no more ({type(error).__name__}: {line(error)}); "
                "the run goes on, and its records are complete"
            )


def available(names: Sequence[str]) -> None:
    """Make sure that these trackers' libraries are here.

    Raises:
        RecipeError: one is not.
    """
    for name in names:
        try:
            import_module(f"polyrank.track.{name}")
        except ImportError as error:
            raise RecipeError(
                "track", f"{name} is not installed ({error}); pip install 'polyrank[track]'"
            ) from None


@contextmanager
def followed(
    names: Sequence[str], subject: Subject, past: RunRecords, tell: Tell
) -> Iterator[Followers]:
    """A run's trackers, which know all rounds so far.

    Args:
        names: of the trackers.
        subject: the run.
        past: its records.
        tell: hears one line of a tracker that fails.
    """
    followers = Followers(tell)
    try:
        for name in names:
            followers.begin(name, subject)
        for record in past.rounds if names else ():
            followers.hear(record)
        yield followers
    finally:
        followers.close()
