"""The nodes of an ordinary Flower app: asked for their ranks, and to train adapters of these."""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import starmap

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import Grid

from polyrank.errors import FederationError, MessageError, line
from polyrank.flower import post
from polyrank.flower.arrays import packed, taken
from polyrank.flower.inorder import in_order
from polyrank.flower.payload import Fact
from polyrank.flower.rank import CONFIG, RANK
from polyrank.lora.factor import Adapter
from polyrank.messages import Client, Download, Upload
from polyrank.server.joining import Met
from polyrank.server.loop import Reply
from polyrank.wire.pack import pack, unpack_upload

ARRAYS, METRICS, EXAMPLES = "arrays", "metrics", "num-examples"
STATED = 60.0  # seconds for a node to state its rank: one that hangs must not hold up a round
LOG = logging.getLogger("flwr")
_REMEDY = "add app.query()(polyrank.flower.rank.state_rank) to its ClientApp"


@dataclass(slots=True)
class Nodes:
    """The nodes of an app, and what they do in a round.

    Args:
        grid: Flower's.
        like: an adapter of theirs, for its names.
        config: sent with every message to train.
        timeout: seconds for an answer.
        scale: α/r.
        ranks: by node, what it stated.
        metrics: by node, what it last said beside its adapter.
    """

    grid: Grid
    like: ArrayRecord
    config: ConfigRecord
    timeout: float
    scale: float
    ranks: dict[int, int] = field(default_factory=dict)
    metrics: dict[str, RecordDict] = field(default_factory=dict)

    def gathered(self, most: int, least: int) -> dict[int, int]:
        """The ranks of the nodes that are here, as soon as there are enough.

        Args:
            most: the largest rank that there can be.
            least: how many nodes are enough.

        Raises:
            FederationError: too few, or one of them states no rank that can be.
        """
        end = time.monotonic() + self.timeout
        while True:
            self.met(most, _refuse)
            if len(self.ranks) >= least:
                return dict(self.ranks)
            if time.monotonic() >= end:
                raise FederationError(
                    f"{len(self.ranks)} of at least {least} nodes stated their rank within "
                    f"{self.timeout:g} s"
                )
            time.sleep(post.POLL)

    def met(self, most: int, tell: Callable[[str], None]) -> dict[str, Met]:
        """Nodes that are here now and were not before, with their ranks.

        Args:
            most: the largest rank that there can be.
            tell: hears of nodes that cannot take part.
        """
        here = set(self.grid.get_node_ids())
        self.ranks = {node: rank for node, rank in self.ranks.items() if node in here}
        letters = {}
        for node in sorted(here - set(self.ranks)):
            if id := post.push(self.grid, node, post.QUERY, RecordDict(), self.timeout, RANK):
                letters[id] = post.Sent(node, 0)
        new, patience = {}, min(STATED, self.timeout)
        for id, rank in post.pull(self.grid, letters, patience, LOG.warning, _rank):
            node = letters[id].node
            if isinstance(rank, MessageError):
                tell(f"node {node} does not state its rank: {rank}; {_REMEDY}")
            elif not 1 <= rank <= most:
                tell(f"node {node} states rank {rank}; 1 to {most} can be")
            else:
                new[node] = rank
        self.ranks = dict(sorted((self.ranks | new).items()))
        return {str(node): Met(rank, 0) for node, rank in sorted(new.items())}

    def exchange(self, round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        """Send every client an adapter of its rank; the replies in the order of the clients."""
        waiting, letters = dict[str, Client](), dict[str, post.Sent]()
        config = ConfigRecord({**self.config, "server-round": round})
        for client, download in sent:
            node = int(client.id)
            start = packed(Adapter(download.start, download.dense), self.like, self.scale)
            content = RecordDict({ARRAYS: start, CONFIG: config})
            most = 2 * sum(len(array.data) for array in start.values()) + 2**16
            group = str(round)
            id = node in self.ranks and post.push(
                self.grid, node, post.TRAIN, content, self.timeout, group
            )
            if not id:
                yield Reply(client, None, "it is not connected")
                continue
            letters[id], waiting[id] = post.Sent(node, most), client
        read = partial(_read, self.scale)
        answers = post.pull(self.grid, letters, self.timeout, LOG.warning, read)
        yield from starmap(partial(self._reply, waiting), in_order(list(waiting), answers))

    def _reply(self, waiting: Mapping[str, Client], id: str, answer: post.Answer | None) -> Reply:
        client = waiting[id]
        if answer is None:
            return Reply(client, None, f"no answer within {self.timeout:g} s")
        if isinstance(answer, MessageError):
            return Reply(client, None, line(answer))
        facts, data = answer
        told = json.loads(str(facts[METRICS])).items()
        self.metrics[client.id] = RecordDict({name: MetricRecord(own) for name, own in told})
        return Reply(client, replace(unpack_upload(data), client=client))


def _rank(content: RecordDict, most: int) -> int:
    rank = content.config_records.get(CONFIG, ConfigRecord()).get(RANK)
    if not isinstance(rank, int) or isinstance(rank, bool):
        raise MessageError(f"its answer has no {RANK}")
    return rank


def _read(scale: float, content: RecordDict, most: int) -> tuple[dict[str, Fact], bytes]:
    """An answer as facts and bytes of ours, which can wait on disk."""
    if ARRAYS not in content.array_records:
        raise MessageError(f"it sent no {ARRAYS!r}")
    size = sum(len(array.data) for array in content.array_records[ARRAYS].values())
    if size > most:
        raise MessageError(f"{size} bytes, where at most {most} can be")
    adapter, examples = taken(content.array_records[ARRAYS], scale), _examples(content)
    upload = Upload(Client("", 0), adapter.factors, examples, adapter.dense)
    metrics = {name: dict(own) for name, own in content.metric_records.items()}
    return {METRICS: json.dumps(metrics)}, pack(upload)


def _examples(answer: RecordDict) -> int:
    found = next(iter(answer.metric_records.values()), MetricRecord()).get(EXAMPLES)
    if not isinstance(found, int | float) or not 0 < found < 2**53:
        raise MessageError(f"its metrics have no {EXAMPLES!r} above 0")
    return int(found)


def _refuse(reason: str) -> None:
    raise FederationError(reason)
