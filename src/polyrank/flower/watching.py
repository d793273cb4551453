"""A run over Flower, told as it goes: lines for the log, and `federation.json` beside the run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyrank.experiment.events import Began, Ended, Replied, RoundDone, Warned
from polyrank.flower import status
from polyrank.flower.network import Network
from polyrank.report.words import judged


@dataclass(slots=True)
class Watching:
    """What has been seen of a run.

    Args:
        folder: the run's.
        rounds: how many there are.
        network: whose nodes.
        tell: hears one line for each thing of note.
        started: when, in seconds since 1970.
        round: the last that is done.
        heard: by client id, the state, reason and time of its last reply.
    """

    folder: Path
    rounds: int
    network: Network
    tell: Callable[[str], None]
    started: float = field(default_factory=time.time)
    round: int = 0
    heard: dict[str, dict[str, Any]] = field(default_factory=dict)

    def hear(self, event: object) -> None:
        """Note an event, tell of it, and write the status where it has changed."""
        match event:
            case Began():
                self.round = event.done
                self.tell(f"run folder {event.folder}: round {event.done} of {event.rounds} done")
            case Warned():
                self.tell(event.line)
            case Replied():
                self._replied(event)
            case RoundDone():
                self.round = int(event.record["round"])
                self.tell(_line(event.record, self.rounds))
            case Ended():
                self.tell(f"done: {event.folder / 'report.html'} and {event.folder / 'adapter'}")
        self._write(status.ENDED if isinstance(event, Ended) else status.RUNNING)

    def wait(self) -> None:
        """Write that nodes are waited for."""
        self._write(status.WAITING)

    def _replied(self, event: Replied) -> None:
        reply = event.reply
        before = self.heard.get(reply.client.id, {}).get("last_seen")
        answered = reply.failure is None
        self.heard[reply.client.id] = {
            "state": "answered" if answered else "left out",
            "reason": reply.failure,
            "rank": reply.client.rank,
            "last_seen": time.time() if answered else before,
        }
        if not answered:
            self.tell(f"round {event.round}: {reply.client.id} was left out: {reply.failure}")

    def _write(self, state: str) -> None:
        sites = {}
        for id, node in self.network.nodes.items():
            known = {"site": node.site, "client": id, "node": str(node.node), "rank": node.rank}
            before = {"state": "connected", "reason": None, "last_seen": None}
            heard = self.heard.get(id, {})
            sites[id] = {**known, "examples": node.examples, **before, **heard}
        for id, heard in self.heard.items():
            if id not in sites:
                sites[id] = {"site": None, "client": id, "node": None, **heard, "state": "away"}
        facts = {"round": self.round, "rounds": self.rounds, "state": state}
        times = {"started": self.started, "updated": time.time()}
        status.write(self.folder, sites, **facts, **times)


def _line(record: Any, rounds: int) -> str:
    test = record["test"]
    score = f"{judged(test)}, " if test else ""
    count, missing = len(record["clients"]), len(record["left_out"])
    left = f", {missing} left out" if missing else ""
    return (
        f"round {record['round']}/{rounds}: {score}{count} answered{left}, "
        f"{record['seconds']:.1f} s"
    )
