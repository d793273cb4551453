"""Federated training, whole: sample, send, exchange, check, weigh, aggregate. No I/O, no engine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from torch import Tensor

from polyrank.algorithm import Algorithm, Info, State
from polyrank.errors import line
from polyrank.lora.factor import Dense, Factors
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.schema import Aggregation
from polyrank.server.held import models
from polyrank.server.joining import Met, joined
from polyrank.server.layout import settled
from polyrank.server.norms import Cohort, Norm, begun, moved
from polyrank.server.optimizer import Moments, step
from polyrank.server.sampling import sample
from polyrank.server.weighing import Weighing, told, weighing
from polyrank.wire.check import Terms, refusal, terms
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
    alone: str | None = None  # why it was not trained with others, where that failed
    before: float | None = None  # accuracy of its trained model, where the engine measured it
    norm: Norm | None = None  # of its change, where the loop could measure it


# All that an engine is: (round, what to send to whom) -> replies, as they come.
Exchange = Callable[[int, Iterable[tuple[Client, Download]]], Iterable[Reply]]
# Who has joined or come back before a round, by client id.
Meet = Callable[[int], Mapping[str, Met]]
# Ranks that change: (round just done, replies that count) -> new ranks by client.
Promote = Callable[[int, Sequence[Reply]], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Federation:
    """All that the server holds between rounds.

    Args:
        state: the algorithm's own.
        dense: the tensors trained whole, averaged by data weight under every algorithm.
        round: how many rounds are done.
        seen: by client, the version of the last download that it is known to hold, if any.
        ranks: by client, its rank where that is no longer the one it began with.
        moments: of the server optimizer.
        norms: medians of how far uploads moved, that the next ones are held to.
    """

    state: State
    dense: Dense
    round: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    moments: Moments = field(default_factory=Moments)
    norms: Mapping[str, float] = field(default_factory=dict)


class Round(NamedTuple):
    """One finished round: the new state, and what happened."""

    federation: Federation
    info: Info
    replies: list[Reply]  # of those who count; their uploads without the tensors
    left_out: list[Reply]  # of those who do not, each with the reason as its `failure`


class Plan(NamedTuple):
    """What stays the same over all rounds.

    Args:
        algorithm: the five functions.
        clients: everybody, at the ranks they begin with.
        template: one factor per adapted layer, at the largest rank of all.
        rounds: how many.
        participation: share of the clients in each round.
        seed: the recipe's.
        aggregation: weights and server optimizer; `weights` is named, not None.
        warmup: rounds at the beginning in which everybody takes part.
        promote: new ranks after a round.
        meet: who has joined, or come back with another rank, before a round.
        shared: whether the server knows all that a client holds (not of a personal algorithm).
    """

    algorithm: Algorithm
    clients: Sequence[Client]
    template: Factors
    rounds: int
    participation: float
    seed: int
    aggregation: Aggregation = Aggregation(weights="data")
    warmup: int = 0
    promote: Promote = lambda round, replies: {}
    meet: Meet = lambda round: {}
    shared: bool = True


def train(
    plan: Plan,
    exchange: Exchange,
    federation: Federation,
    watch: Callable[[int, int, Reply], None] = lambda *_: None,
) -> Iterator[Round]:
    """Every round that is not done yet; `watch` hears of each reply (round, expected, reply)."""
    while federation.round < plan.rounds:
        number = federation.round + 1
        now = joined(plan.clients, federation.ranks, federation.seen, plan.meet(number))
        plan = plan._replace(clients=now.clients)
        federation = replace(federation, ranks=now.ranks, seen=now.seen)
        chosen = participants(plan, federation, number)
        weigh = _weighing(plan, federation, chosen)
        intake = Intake(plan, federation, weigh, partial(watch, number, len(chosen)))
        uploads = intake.accepted(exchange(number, ((c, intake.download(c)) for c in chosen)))
        state, own = plan.algorithm.aggregate(federation.state, uploads)
        before = plan.algorithm.read(federation.state)
        info = {**told(weigh, [r.upload for r in intake.kept if r.upload], before), **own}
        federation = _moved_on(plan, federation, intake, state)
        yield Round(federation, info, intake.kept, intake.left_out)


def participants(plan: Plan, federation: Federation, number: int) -> list[Client]:
    """Who takes part in a round, each at its present rank."""
    share = 1.0 if number <= plan.warmup else plan.participation
    chosen = sample(plan.clients, share, plan.seed, number)
    return [present(federation, c) for c in chosen]


def present(federation: Federation, client: Client) -> Client:
    """The client at its present rank, with what it is known to hold."""
    rank = federation.ranks.get(client.id, client.rank)
    return replace(client, rank=rank, seen=federation.seen.get(client.id, 0))


def _weighing(plan: Plan, federation: Federation, chosen: Sequence[Client]) -> Weighing:
    state, of = federation.state, plan.algorithm
    known = chosen if plan.shared else ()
    found = models(of, state, known, plan.template)
    how = plan.aggregation
    return weighing(str(how.weights), how.per_layer, chosen, found, of.read(state))


def _moved_on(plan: Plan, old: Federation, intake: "Intake", state: State) -> Federation:
    """The federation after a round: stepped by the server optimizer, with the new ranks."""
    after, moments = (state, intake.mean()), old.moments
    if intake.kept:
        after, moments = step(plan.aggregation, (old.state, old.dense), after, moments)
    new = plan.promote(old.round + 1, intake.kept)
    begun = {c.id: c.rank for c in plan.clients} if new else {}
    changed = {id: r for id, r in new.items() if r != old.ranks.get(id, begun[id])}
    # What a client keeps is of its old rank: with the new one it is sent everything.
    seen = {**old.seen, **intake.seen, **dict.fromkeys(changed, 0)}
    seen = {id: version for id, version in seen.items() if version}
    ranks = {**old.ranks, **changed}
    norms = intake.cohort.medians()
    return settled(Federation(*after, old.round + 1, seen, ranks, moments, norms))


class Intake:
    """One round's replies on their way to the algorithm: checked, weighed, heads averaged."""

    def __init__(
        self, plan: Plan, federation: Federation, weigh: Weighing, watch: Callable[[Reply], None]
    ) -> None:
        self.plan, self.federation, self.weigh, self.watch = plan, federation, weigh, watch
        self.kept: list[Reply] = []
        self.left_out: list[Reply] = []
        self.terms: dict[str, Terms] = {}
        self.seen: dict[str, int] = {}
        self.cohort = Cohort(federation.norms, plan.aggregation.max_norm)
        self._sums: dict[str, Tensor] = {}
        self._examples = 0

    def download(self, client: Client) -> Download:
        """What this client starts from."""
        sent = self.plan.algorithm.send(self.federation.state, client)
        self.terms[client.id] = terms(sent, client, self.plan.template)
        return replace(sent, dense=self.federation.dense)

    def accepted(self, replies: Iterable[Reply]) -> Iterator[Upload]:
        """The uploads that count, weighed; what is refused is named in `left_out`."""
        for reply in replies:
            id, upload = reply.client.id, reply.upload
            reason, norm = self._judged(reply)
            counts = upload is not None and reason is None
            # A client that failed, in whatever way, may hold anything: it is sent all next time.
            self.seen[id] = self.terms[id].version if counts else 0
            if upload is not None and counts:
                upload = self.weigh(upload)
            light = upload and replace(upload, factors={}, dense={}, slots={})
            told = reply._replace(upload=light, failure=reason, norm=norm)
            self.watch(told)
            if upload is None or reason is not None:
                self.left_out.append(told)
                continue
            self._add(upload)
            self.kept.append(told)
            yield upload
            del reply, upload  # or it were in memory beside the next one

    def mean(self) -> Dense:
        """The dense tensors after the round; as before if nobody counts."""
        if not self._examples:
            return self.federation.dense
        return {name: t / self._examples for name, t in self._sums.items()}

    def _judged(self, reply: Reply) -> tuple[str | None, Norm | None]:
        """(why the upload does not count, how far it moved), each None where there is none."""
        if (upload := reply.upload) is None:
            return reply.failure or "no upload", None
        asked = self.terms[reply.client.id]
        if reason := refusal(upload, asked, self.federation.dense):
            return line(reason), None
        of, state = self.plan.algorithm, self.federation.state
        start = begun(of, state, reply.client, self.plan.template)
        norm = moved(upload, start._replace(dense=self.federation.dense))
        return self.cohort.refusal(reply.client.id, asked.up, norm), norm

    def _add(self, upload: Upload) -> None:
        self._examples += upload.examples
        for name, t in upload.dense.items():
            self._sums[name] = self._sums.get(name, 0 * t) + upload.examples * t
