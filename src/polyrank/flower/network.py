"""The engine: clients are nodes of a Flower federation, and rounds are messages to them."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import starmap
from typing import NamedTuple

from flwr.serverapp import Grid

from polyrank.client.model import template
from polyrank.engine import passing
from polyrank.errors import MessageError, PolyrankError, line
from polyrank.experiment.setup import Setup
from polyrank.flower import payload, post
from polyrank.flower.inorder import in_order
from polyrank.flower.payload import Fact
from polyrank.flower.stated import Stated, consists, seconds, stated
from polyrank.messages import Client, Download
from polyrank.recipe import Recipe
from polyrank.recipe.codecs import codec
from polyrank.recipe.load import dump
from polyrank.server.joining import Met
from polyrank.server.loop import Reply
from polyrank.version import __version__
from polyrank.wire.check import most_bytes, terms
from polyrank.wire.pack import Size

ANSWER = 1 << 20  # bytes at most, of a node that says who it is
LOADING = 180.0  # seconds at least for the first answer: a trainer starts, and loads model and data


class AbsentError(PolyrankError, TimeoutError):
    """Too few nodes are connected to go on."""


class Asked(NamedTuple):
    """Whose answer is waited for: what it was sent weighs, and is, where that is needed."""

    client: Client
    down: Size
    data: bytes


@dataclass(slots=True)
class Network:
    """The nodes of a federation.

    Args:
        grid: Flower's way to them.
        recipe: what they do.
        setup: model and data of the server.
        run: what nodes name their private state by.
        deadline: seconds for a round.
        least: nodes that must be connected for a round to begin.
        tell: hears, in one line each, of what is left out outside of a round.
        allowed: why a rank cannot take part, or None.
        answer: the rank of a node that states none; None leaves it as it is.
        nodes: by client id, the node that stated to be it.
        counted: by client id, the last round in which its upload counted.
        ranks: by client id, the rank that it was last asked for.
    """

    grid: Grid
    recipe: Recipe
    setup: Setup
    run: str
    deadline: float
    least: int
    tell: Callable[[str], None]
    allowed: Callable[[int], str | None] = lambda rank: None
    answer: Callable[[Stated], int | None] = lambda one: None
    nodes: dict[str, Stated] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)

    def meet(self, round: int) -> dict[str, Met]:
        """Ask nodes that are new, or were away, who they are; wait until enough are there.

        Raises:
            AbsentError: too few by the deadline.
            MessageError: before the first round, a site that cannot take part.
        """
        end, met = time.monotonic() + self.deadline, dict[str, Met]()
        while True:
            present = set(self.grid.get_node_ids())
            self.nodes = {id: s for id, s in self.nodes.items() if s.node in present}
            new = present - {s.node for s in self.nodes.values()}
            left = max(end - time.monotonic(), 0.0 if self.nodes else LOADING)
            for one in self._asked(sorted(new), left, round):
                self.nodes[one.client] = one
                met[one.client] = Met(one.rank, one.examples)
            if len(self.nodes) >= self.least:
                return met
            if time.monotonic() >= end:
                raise AbsentError(
                    f"round {round}: {len(self.nodes)} of min-nodes={self.least} nodes are "
                    f"connected after {self.deadline:g} s; finished rounds are safe, start again "
                    "when the nodes are there"
                )
            time.sleep(post.POLL)

    def exchange(self, round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        """Send every client its download; the replies in the order of the clients."""
        end = time.monotonic() + self.deadline
        waiting, letters = dict[str, Asked](), dict[str, post.Sent]()
        like = template(self.setup.bench, 1)
        for client, download in sent:
            node = self.nodes.get(client.id)
            if node is None:
                yield Reply(client, None, "its node is not connected")
                continue
            id, asked = self._pushed(round, node.node, client, download)
            if id is None:
                yield Reply(client, None, "the SuperLink did not take its message", down=asked.down)
                continue
            most = most_bytes(terms(download, client, like), download.dense)
            letters[id], waiting[id] = post.Sent(node.node, most), asked
            del download  # or it were in memory beside the next one
        left = end - time.monotonic()
        answers = post.pull(self.grid, letters, left, self.tell, payload.taken)
        # No name here holds on to an answer while the next one comes.
        yield from starmap(partial(self._reply, waiting), in_order(list(waiting), answers))

    def _pushed(
        self, round: int, node: int, client: Client, download: Download
    ) -> tuple[str | None, Asked]:
        """(id of the message, None if it was not taken; what it asks for)"""
        data, size = passing.delivery(self.recipe, round, client, download)
        content = payload.packed(self._facts(round, client), data)
        id = post.push(self.grid, node, post.TRAIN, content, self.deadline, str(round))
        # To decode a change one needs what it is the change of; nothing else is kept.
        return id, Asked(client, size, b"" if codec(self.recipe.wire.up).plain else data)

    def _reply(self, waiting: dict[str, Asked], id: str, answer: post.Answer | None) -> Reply:
        client, down, data = waiting.pop(id)
        if answer is None:
            return Reply(client, None, f"no answer within {self.deadline:g} s", down=down)
        if isinstance(answer, MessageError):
            return Reply(client, None, str(answer), down=down)
        facts, up = answer
        if "failure" in facts:
            # It may be another now, or at another rank: it is asked again who it is.
            self.nodes.pop(client.id, None)
            return Reply(client, None, line(facts["failure"]), down=down)
        try:
            sent = passing.delivered(self.recipe, data) if data else Download()
            upload = passing.answered(self.recipe, self.setup.bench, client, sent, up)
            size, took = consists(facts, len(up)), seconds(facts)
        except MessageError as error:
            return Reply(client, None, line(error), Size(len(up), 0, 0), down)
        return Reply(client, upload, None, size, down, took)

    def _asked(self, nodes: Iterable[int], deadline: float, round: int) -> Iterator[Stated]:
        """Those of the nodes that can take part."""
        letters = {}
        for node in nodes:
            content, ttl = payload.packed(self._common()), max(deadline, 1.0)
            if id := post.push(self.grid, node, post.QUERY, content, ttl, "query"):
                letters[id] = post.Sent(node, ANSWER)
        for id, answer in post.pull(self.grid, letters, deadline, self.tell, payload.taken):
            node = letters[id].node
            if isinstance(answer, MessageError):
                self.tell(f"node {node} did not say who it is: {answer}; it is asked again")
                continue
            try:
                yield self._admitted(node, answer[0])
            except MessageError as error:
                if round == 1:  # better now than in round nine
                    raise
                self.tell(f"round {round}: {error}; it was left out")

    def _admitted(self, node: int, facts: Mapping[str, Fact]) -> Stated:
        one = stated(node, facts, self.setup.classes)
        before = self.nodes.get(one.client)
        if before is not None and before.node != node:
            raise MessageError(
                f"{one.site} states to be client {one.client!r}, which {before.site} is already"
            )
        if one.rank is None:
            one = one._replace(rank=self.answer(one))
        if one.rank is not None and (reason := self.allowed(one.rank)):
            raise MessageError(f"{one.site} states rank {one.rank}, {reason}")
        return one

    def _facts(self, round: int, client: Client) -> dict[str, Fact]:
        return {
            **self._common(),
            "round": round,
            "client": client.id,
            "rank": client.rank,
            "seen": client.seen,
            "since": self.counted.get(client.id, 0),
        }

    def _common(self) -> dict[str, Fact]:
        return {
            "recipe": dump(self.recipe),
            "classes": json.dumps(self.setup.classes),
            "run": self.run,
            "version": __version__,
        }
