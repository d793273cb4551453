"""What of a record can be plotted, as named numbers.

A client's number counts by its examples: Σ n_i·x_i / Σ n_i over those that have it.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from polyrank.report.records import MB, WAYS, sent

Numbers = dict[str, float]


def of_round(record: Any) -> Numbers:
    """A round's numbers, by name; what was not measured, or is not finite, is absent.

    Args:
        record: of the kind round.
    """
    found: dict[str, Any] = {
        **_named("test", record["test"] or {}),
        **_clients(record["clients"]),
        **_named("info", record.get("info", {})),
        **_named("generated", (record.get("generated") or {}).get("metrics", {})),
        "spectrum/effective_rank": (record.get("spectrum") or {}).get("effective_rank"),
        "round/clients": len(record["clients"]),
        "round/left_out": len(record.get("left_out", [])),
        "round/seconds": record["seconds"],
    }
    for way in WAYS:
        found[f"traffic/{way}_mb"] = sum(b["total"] for b in sent(record, way)) / MB
    for when in ("before", "after"):
        found[f"probe/{when}"] = _mean((1, p[when]) for p in record.get("probes", []))
    return _finite(found)


def of_final(record: Any) -> Numbers:
    """The result's numbers: of the global model, and the mean over the models that clients hold.

    Args:
        record: of the kind final.
    """
    held = record["clients"]
    keys = dict.fromkeys(k for c in held for k in c if k not in ("id", "rank"))
    return _finite({
        **_named("final", record["test"] or {}),
        **_named("final", (record.get("generated") or {}).get("metrics", {})),
        **{f"final/clients_{key}": _mean((1, c.get(key)) for c in held) for key in keys},
    })  # fmt: skip


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A recipe with dotted keys: {"local": {"lr": 1}} becomes {"local.lr": 1}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{above}.{key}" if above else str(key)
        found |= flat(value, name) if isinstance(value, Mapping) and value else {name: value}
    return found


def _clients(replies: Any) -> dict[str, Any]:
    """Ranks, what clients measured themselves, and the loss and number of each rank."""
    if not replies:
        return {}
    ranks = [c["rank"] for c in replies]
    found = {"ranks/min": min(ranks), "ranks/mean": fmean(ranks), "ranks/max": max(ranks)}
    measured: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for client in replies:
        own = {"loss": client["loss"], **client.get("metrics", {})}
        own["update_norm"] = (client.get("norm") or {}).get("factors")
        for key, value in own.items():
            measured[f"clients/{key}"].append((client["examples"], value))
        measured[f"rank_{client['rank']}/loss"].append((client["examples"], client["loss"]))
    counts = {f"rank_{rank}/clients": ranks.count(rank) for rank in sorted(set(ranks))}
    return found | counts | {key: _mean(values) for key, values in measured.items()}


def _mean(pairs: Iterable[tuple[int, Any]]) -> float:
    """The weighted mean of what is finite; NaN where nothing is."""
    known = [(n, x) for n, x in pairs if _is_number(x)]
    total = math.fsum(n for n, _ in known)
    return math.fsum(n * x for n, x in known) / total if total else math.nan


def _named(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{group}/{key}": value for key, value in values.items()}


def _finite(values: Mapping[str, Any]) -> Numbers:
    return {key: float(value) for key, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
