"""Messages to nodes and their answers, as they come, until a deadline."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from flwr.app import Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from polyrank.errors import MessageError, line
from polyrank.flower.payload import Fact

POLL = 0.5  # seconds between two looks for answers
TOGETHER = 8  # answers that are in memory at once
Answer = tuple[dict[str, Fact], bytes] | MessageError
QUERY, TRAIN = MessageType.QUERY, MessageType.TRAIN
T = TypeVar("T")


class Sent(NamedTuple):
    """A message that waits for its answer.

    Args:
        node: to whom.
        most: bytes that its answer may have.
    """

    node: int
    most: int


def push(
    grid: Grid, node: int, kind: str, content: RecordDict, ttl: float, group: str
) -> str | None:
    """Send one message; returns its id, or None if it was not taken.

    Args:
        grid: Flower's.
        node: to whom.
        kind: QUERY or TRAIN.
        content: what is sent.
        ttl: seconds after which nobody waits for the answer.
        group: Flower's name for messages that belong together.
    """
    message = Message(content, dst_node_id=node, message_type=kind, ttl=ttl, group_id=group)
    return next(iter(grid.push_messages([message])), None)


def pull(
    grid: Grid,
    waiting: Mapping[str, Sent],
    deadline: float,
    tell: Callable[[str], None],
    read: Callable[[RecordDict, int], T],
) -> Iterator[tuple[str, T | MessageError]]:
    """(id of the message, what was answered or why that cannot be used), as they come.

    Each message is answered once; those that no answer came to by the deadline are not named.

    Args:
        grid: Flower's.
        waiting: messages sent, by id.
        deadline: seconds from now.
        tell: hears of answers that nobody waits for.
        read: (content, bytes at most) to what is answered, or a MessageError.
    """
    left, end = dict(waiting), time.monotonic() + deadline
    while left:
        for some in _some(list(left)):
            for message in grid.pull_messages(some):
                asked = str(message.metadata.reply_to_message_id)
                sent = left.pop(asked, None)
                if sent is None:
                    node = message.metadata.src_node_id
                    tell(f"node {node} answered what nobody waits for; it was left out")
                    continue
                if not _expired(message):
                    yield asked, _read(message, sent, read)
        if left and time.monotonic() >= end:
            return
        if left:
            time.sleep(POLL)


def _expired(message: Message) -> bool:
    """Whether Flower only says that nobody waits any longer: it may be quicker than we are."""
    return message.has_error() and message.error.code == ErrorCode.MESSAGE_UNAVAILABLE


def _read(message: Message, sent: Sent, read: Callable[[RecordDict, int], T]) -> T | MessageError:
    if message.has_error():
        reason = line(message.error.reason or "no reason given").strip()
        return MessageError(f"its node failed (Flower's code {message.error.code}): {reason}")
    if message.metadata.src_node_id != sent.node:
        return MessageError(f"answered by node {message.metadata.src_node_id}, not {sent.node}")
    try:
        return read(message.content, sent.most)
    except MessageError as error:
        return error


def _some(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[i : i + TOGETHER] for i in range(0, len(ids), TOGETHER))
