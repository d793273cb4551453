"""A table of very many clients: a line for each rank, with quantiles over its clients."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from statistics import fmean

from polyrank.report.clients import History
from polyrank.report.markup import Column, Content, Html, table
from polyrank.report.metric import Metric
from polyrank.report.records import MB
from polyrank.report.words import NOTHING, measured, megabytes

SHARES = (0.05, 0.5, 0.95)
_SPREAD = "5 %, half and 95 % of the clients have at most so much"


def rank_table(clients: Sequence[History], metric: Metric) -> Html:
    """A line for each rank.

    Args:
        clients: in order of their last rank.
        metric: what their models are judged by.
    """
    columns = [
        Column("Rank", "number", "the last that a client had"),
        Column("Clients"),
        Column("Examples", "number", _SPREAD),
        Column("Took part", "number", "clients that did in any round"),
        Column("Rounds", "number", "in which those took part, mean"),
        Column("Measured", "number", "clients whose model was measured at the end"),
        Column(
            metric.name.capitalize(), "number", f"of their models, on the whole test set: {_SPREAD}"
        ),
        Column("Own mix", "number", f"the same, weighted by their own label mix: {_SPREAD}"),
        Column("Mean weight", "number", "aggregation weight, mean over clients and rounds"),
        Column("MB up", "number", "of all clients of the rank"),
        Column("MB down", "number", "of all clients of the rank"),
    ]
    ranked = groupby(clients, key=lambda client: client.rank)
    return table(columns, [_line(rank, list(alike), metric) for rank, alike in ranked])


def quantiles(values: Sequence[float], shares: Sequence[float] = SHARES) -> list[float]:
    """The least values that at least these shares of all values do not exceed."""
    ordered = sorted(values)
    return [ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for share in shares]


def _line(rank: int, alike: Sequence[History], metric: Metric) -> list[Content]:
    word = partial(measured, metric=metric)
    parts = [client.parts for client in alike if client.parts]
    ends = [client.end for client in alike if client.end]
    weights = [w for client in alike for w in client.weights]
    return [
        str(rank),
        f"{len(alike):,}",
        _spread([float(c.held["examples"]) for c in alike if c.held], lambda n: f"{n:,.0f}"),
        f"{len(parts):,}",
        f"{fmean(map(len, parts)):.1f}" if parts else NOTHING,
        f"{len(ends):,}",
        _spread([v for e in ends if (v := metric.of(e)) is not None], word),
        _spread([v for e in ends if (v := metric.own(e)) is not None], word),
        f"{fmean(weights):.4f}" if weights else NOTHING,
        megabytes(sum(c["up"]["total"] for own in parts for c in own) / MB),
        megabytes(sum(c["down"]["total"] for own in parts for c in own) / MB),
    ]


def _spread(values: Sequence[float], word: Callable[[float], str]) -> str:
    return " · ".join(map(word, quantiles(values))) if values else NOTHING
