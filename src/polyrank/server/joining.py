"""Clients that join during a run, or come back as others than they were."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from polyrank.messages import Client


class Met(NamedTuple):
    """What a client says of itself when it joins, or comes back.

    Args:
        rank: that it trains; None leaves it as it is.
        examples: that it trains on.
    """

    rank: int | None
    examples: int


class Known(NamedTuple):
    """What a federation knows of its clients: those it asks, and their ranks and versions."""

    clients: Sequence[Client]
    ranks: Mapping[str, int]
    seen: Mapping[str, int]


def joined(
    clients: Sequence[Client],
    ranks: Mapping[str, int],
    seen: Mapping[str, int],
    met: Mapping[str, Met],
) -> Known:
    """What is known once clients have said what they are; nothing changes if none has.

    A client at another rank than before is sent everything.

    Args:
        clients: everybody, at the ranks they began with.
        ranks: by client, its rank where that is no longer the one it began with.
        seen: by client, the version that it is known to hold.
        met: by client, what it says.
    """
    by_id = {c.id: c for c in clients}
    for id, (rank, examples) in sorted(met.items()):
        if id in by_id:
            by_id[id] = replace(by_id[id], examples=examples)
        elif rank is not None:
            by_id[id] = Client(id, rank, examples=examples)
    said = {id: one.rank for id, one in met.items() if one.rank is not None}
    changed = {id: r for id, r in said.items() if r != ranks.get(id, by_id[id].rank)}
    still = {id: version for id, version in seen.items() if id not in changed}
    return Known(list(by_id.values()), {**ranks, **changed}, still)
