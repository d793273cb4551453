"""What nodes state of themselves, read as strictly as anything that comes over a network."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from polyrank.errors import MessageError, line
from polyrank.flower.payload import Fact
from polyrank.wire.pack import Size

LONG = 1e9  # seconds that nothing takes
MOST = 2**53  # more than there is of anything


class Stated(NamedTuple):
    """A node, as it stated itself.

    Args:
        node: Flower's id of it.
        site: its name.
        client: which client it is.
        rank: that it trains; None leaves it to the server.
        own: whether it trains on data of its own.
        examples: that it trains on.
        counts: the same by class.
        memory: MiB that it has for training; 0 is unknown.
        measured: whether that is what was free just now, rather than what its operator says.
    """

    node: int
    site: str
    client: str
    rank: int | None
    own: bool
    examples: int
    counts: tuple[int, ...]
    memory: int
    measured: bool


def stated(node: int, facts: Mapping[str, Fact], classes: Sequence[str]) -> Stated:
    """What a node answered when it was asked who it is.

    Args:
        node: which.
        facts: its answer.
        classes: the server's.

    Raises:
        MessageError: it cannot take part, or its answer is malformed.
    """
    if "failure" in facts:
        raise MessageError(f"node {node} cannot take part: {line(facts['failure'])}")
    try:
        site, client = line(facts["site"]), line(facts["client"])
        if "unknown" in facts:
            raise MessageError(
                f"{site} has labels that the recipe's data has not: {line(facts['unknown'])}; "
                f"the classes are {', '.join(classes)}"
            )
        rank, examples = _whole(facts["rank"]), _whole(facts["examples"])
        counts = tuple(map(_whole, json.loads(str(facts["counts"]))))
        own, memory, measured = bool(facts["own"]), _whole(facts["memory"]), bool(facts["measured"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, MessageError):
            raise
        raise MessageError(line(f"node {node} gave no well-formed answer: {error!r}")) from None
    if len(counts) != len(classes):
        raise MessageError(f"{site} counts {len(counts)} classes, where there are {len(classes)}")
    if sum(counts) != examples or examples < 1:
        raise MessageError(line(f"{site} states {examples} examples, but {sum(counts)} by class"))
    return Stated(node, site, client, rank or None, own, examples, counts, memory, measured)


def consists(facts: Mapping[str, Fact], total: int) -> Size:
    """What an upload consists of, as its client says, within what arrived."""
    factors, dense = (facts.get(key) for key in ("factors", "dense"))
    if not (isinstance(factors, int) and isinstance(dense, int) and min(factors, dense) >= 0):
        raise MessageError("does not say what its bytes are")
    if factors + dense > total:
        raise MessageError(f"says that {factors + dense} of its {total} bytes are tensors")
    return Size(total, factors, dense)


def seconds(facts: Mapping[str, Fact]) -> float:
    """How long a client says that its round took."""
    found = facts.get("seconds")
    if isinstance(found, str) or found is None or not 0 <= found < LONG:
        raise MessageError("does not say how long it took")
    return float(found)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST:
        raise ValueError(f"{value!r} is no whole number")
    return value
