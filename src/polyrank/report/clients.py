"""What a run's records say of one client: its rank by the end, its weight in a round."""

from polyrank.report.format import Round, Trained
from polyrank.report.records import RunRecords


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
    """E_i: the share of the update's energy beyond the client's rank."""
    found: float | None = record.get("info", {}).get("truncation", {}).get(client["id"])
    return found


def _natural(id: str) -> tuple[int, str]:
    return (int(id), "") if id.isdecimal() else (0, id)
