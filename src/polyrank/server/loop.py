"""Federated training, whole: sample, send, exchange, check, aggregate. No I/O and no engine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from torch import Tensor

from polyrank.algorithm import Algorithm, Info, State
from polyrank.lora.factor import Dense, Factors
from polyrank.messages import Client, Download, Upload
from polyrank.server.sampling import sample
from polyrank.wire.check import refusal
from polyrank.wire.pack import Size

NOTHING = Size(0, 0, 0)


class Reply(NamedTuple):
    """What an engine brings back from one client: an upload, or the reason why there is none."""

    client: Client
    upload: Upload | None
    failure: str | None = None
    up: Size = NOTHING
    down: Size = NOTHING
    seconds: float = 0.0


# All that an engine is: (round, what to send to whom) -> replies, as they come.
Exchange = Callable[[int, Iterable[tuple[Client, Download]]], Iterable[Reply]]


@dataclass(frozen=True, slots=True)
class Federation:
    """All that the server holds between rounds.

    Args:
        state: the algorithm's own.
        dense: the tensors trained whole, averaged by data weight under every algorithm.
        round: how many rounds are done.
        seen: by client, the last fold that its base is known to hold.
    """

    state: State
    dense: Dense
    round: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)


class Round(NamedTuple):
    """One finished round: the new state, and what happened."""

    federation: Federation
    info: Info
    replies: list[Reply]  # of those who count; their uploads without the tensors
    left_out: list[Reply]  # of those who do not, each with the reason as its `failure`


class Plan(NamedTuple):
    """What stays the same over all rounds."""

    algorithm: Algorithm
    clients: Sequence[Client]
    template: Factors
    rounds: int
    participation: float
    seed: int


def train(
    plan: Plan,
    exchange: Exchange,
    federation: Federation,
    watch: Callable[[int, int, Reply], None] = lambda *_: None,
) -> Iterator[Round]:
    """Every round that is not done yet; `watch` hears of each reply (round, expected, reply)."""
    while federation.round < plan.rounds:
        number = federation.round + 1
        chosen = [
            replace(c, seen=federation.seen.get(c.id, 0))
            for c in sample(plan.clients, plan.participation, plan.seed, number)
        ]
        intake = Intake(plan, federation, partial(watch, number, len(chosen)))
        uploads = intake.accepted(exchange(number, ((c, intake.download(c)) for c in chosen)))
        state, info = plan.algorithm.aggregate(federation.state, uploads)
        federation = Federation(state, intake.mean(), number, {**federation.seen, **intake.seen})
        yield Round(federation, info, intake.kept, intake.left_out)


class Intake:
    """One round's replies on their way to the algorithm: checked, counted, heads averaged."""

    def __init__(self, plan: Plan, federation: Federation, watch: Callable[[Reply], None]) -> None:
        self.plan, self.federation, self.watch = plan, federation, watch
        self.kept: list[Reply] = []
        self.left_out: list[Reply] = []
        self.versions: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self._sums: dict[str, Tensor] = {}
        self._examples = 0

    def download(self, client: Client) -> Download:
        """What this client starts from."""
        sent = self.plan.algorithm.send(self.federation.state, client)
        self.versions[client.id] = sent.version
        return replace(sent, dense=self.federation.dense)

    def accepted(self, replies: Iterable[Reply]) -> Iterator[Upload]:
        """The uploads that count; what is refused is named in `left_out`."""
        for reply in replies:
            id, upload = reply.client.id, reply.upload
            reason = self._reason(reply)
            # A client that did not answer may hold anything: next time it starts from pretrained.
            self.seen[id] = 0 if upload is None else self.versions[id]
            light = upload and replace(upload, factors={}, dense={})
            told = reply._replace(upload=light, failure=reason)
            self.watch(told)
            if upload is None or reason is not None:
                self.left_out.append(told)
                continue
            self._add(upload)
            self.kept.append(told)
            yield upload

    def mean(self) -> Dense:
        """The dense tensors after the round; as before if nobody counts."""
        if not self._examples:
            return self.federation.dense
        return {name: t / self._examples for name, t in self._sums.items()}

    def _reason(self, reply: Reply) -> str | None:
        if reply.upload is None:
            return reply.failure or "no upload"
        return refusal(reply.upload, reply.client, self.plan.template, self.federation.dense)

    def _add(self, upload: Upload) -> None:
        self._examples += upload.examples
        for name, t in upload.dense.items():
            self._sums[name] = self._sums.get(name, 0 * t) + upload.examples * t
