"""What a run's records say of its clients: their ranks, weights and parts in the rounds."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from polyrank.report.format import Holdings, Outcome, Round, Trained
from polyrank.report.records import RunRecords

MANY = 200  # clients, of which each still has a line of its own
OF_CLIENT = Callable[[Round, Trained], float | None]


@dataclass(frozen=True, slots=True)
class History:
    """A client in a run: its last rank, what it held, did in each round, and ended with."""

    id: str
    rank: int
    held: Holdings | None
    parts: Sequence[Trained]
    weights: Sequence[float]
    end: Outcome | None


@dataclass(frozen=True, slots=True)
class Line:
    """What a line of a map stands for: one client, or all clients of one rank where they are many.

    Args:
        name: beside the map.
        who: in words, for a hover.
        ids: the clients.
    """

    name: str
    who: str
    ids: Sequence[str]


def lines(run: RunRecords) -> list[Line]:
    """The lines of a map of the run's clients, in order of their last ranks."""
    ranks = last_ranks(run)
    if len(ranks) <= MANY:
        return [Line(f"{id} (r {r})", f"client {id}, rank {r}", [id]) for id, r in ranks.items()]
    alike: dict[int, list[str]] = defaultdict(list)
    for id, rank in ranks.items():
        alike[rank].append(id)
    return [
        Line(f"rank {r}", f"mean over clients of rank {r}, in all {len(ids):,}", ids)
        for r, ids in alike.items()
    ]


def histories(run: RunRecords) -> list[History]:
    """Every client of the run, in order of its last rank, then id."""
    parts: dict[str, list[Trained]] = defaultdict(list)
    weights: dict[str, list[float]] = defaultdict(list)
    for record in run.rounds:
        for client in record["clients"]:
            parts[client["id"]].append(client)
            if (given := weight(record, client)) is not None:
                weights[client["id"]].append(given)
    held = {c["id"]: c for c in run.run["clients"]}
    ends = {c["id"]: c for c in run.final["clients"]} if run.final else {}
    return [
        History(id, rank, held.get(id), parts[id], weights[id], ends.get(id))
        for id, rank in last_ranks(run).items()
    ]


def last_ranks(run: RunRecords) -> dict[str, int]:
    """The rank that each client had last, in order of rank, then id."""
    ranks = {c["id"]: c["rank"] for c in run.run["clients"]}
    for record in run.rounds:
        ranks |= {c["id"]: c["rank"] for c in record["clients"]}
    if run.final:
        ranks |= {c["id"]: c["rank"] for c in run.final["clients"]}
    return dict(sorted(ranks.items(), key=lambda item: (item[1], *_natural(item[0]))))


def first_ranks(run: RunRecords) -> dict[str, int]:
    """The rank that each client started with."""
    return {c["id"]: c["rank"] for c in run.run["clients"]}


def weight(record: Round, client: Trained) -> float | None:
    """The aggregation weight that the algorithm gave the client in this round."""
    given = client.get("weight")
    if given is not None:
        return given
    found: float | None = record.get("info", {}).get("weights", {}).get(client["id"])
    return found


def truncation(record: Round, client: Trained) -> float | None:
    """E_i: the share of each layer's update that the client does not hold, summed over layers."""
    found: float | None = record.get("info", {}).get("truncation", {}).get(client["id"])
    return found


def norm(record: Round, client: Trained) -> float | None:
    """How far the client's factors moved in this round."""
    found = client.get("norm")
    return found["factors"] if found else None


def _natural(id: str) -> tuple[int, str]:
    return (int(id), "") if id.isdecimal() else (0, id)
