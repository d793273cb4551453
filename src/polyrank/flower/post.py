"""Messages to nodes and their answers, as they come, until a deadline."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from flwr.app import Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from polyrank.errors import MessageError, line
from polyrank.flower.payload import Fact

POLL = 0.5  # seconds between two looks for answers
ROOM = 1 << 26  # bytes of answers that are in memory at once, where they are not one answer
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
        for some in _some(dict(left)):
            arrived = _let_go(deque(grid.pull_messages(some)))
            yield from filter(None, map(partial(_opened, left, tell, read), arrived))
        if left and time.monotonic() >= end:
            return
        if left:
            time.sleep(POLL)


def _let_go(messages: deque[Message]) -> Iterator[Message]:
    """Each message, which no name here holds on to while it is used."""
    while messages:
        yield messages.popleft()


def _opened(
    left: dict[str, Sent],
    tell: Callable[[str], None],
    read: Callable[[RecordDict, int], T],
    message: Message,
) -> tuple[str, T | MessageError] | None:
    """(id of the message, its answer), no longer in `left`; None if nobody waits for it."""
    asked = str(message.metadata.reply_to_message_id)
    sent = left.pop(asked, None)
    if sent is None:
        node = message.metadata.src_node_id
        tell(f"node {node} answered what nobody waits for; it was left out")
        return None
    return None if _expired(message) else (asked, _read(message, sent, read))


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


def _some(waiting: Mapping[str, Sent]) -> Iterator[list[str]]:
    """The ids, as many at a time as have answers that fit into ROOM; at least one."""
    together, size = list[str](), 0
    for id, sent in waiting.items():
        if together and size + sent.most > ROOM:
            yield together
            together, size = [], 0
        together.append(id)
        size += sent.most
    if together:
        yield together
