"""The algorithms in a terminal: three lines each, in 100 columns."""

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from polyrank import algorithms
from polyrank.experiment.costs import Cost
from polyrank.experiment.plan import Need
from polyrank.report.records import MB
from polyrank.report.words import duration, megabytes

_HEAD = "{:<12} {:<6} {:<7} {:<12} "
_LEGEND = """
r_i: rank of a client; R: the largest; S: the sum over a round's clients; a layer is m×n.
exact: the server's update is the weighted mean of the clients' updates; biased: it is not.
""".rstrip()
_MEASURED = """
MB = 10⁶ bytes of a client's message, head and names included, from its smallest to its largest
rank; packed in the second round, after a first in which everybody took part and moved at random.
""".rstrip()


def listing(costs: Mapping[str, Cost | None] | None = None) -> Iterator[Text]:
    """A heading, three lines for each algorithm, and what the words mean.

    Args:
        costs: by algorithm, the measured bytes of a recipe's clients, if there is a recipe.
    """
    last = "paper" if costs is None else "MB up            MB down"
    yield Text(_HEAD.format("algorithm", "ranks", "update", "weights") + last, "bold")
    for name in algorithms.names():
        about = algorithms.about(name)
        ranks, exact = "mixed" if about.mixed else "equal", "exact" if about.exact else "biased"
        line = Text(_HEAD.format(name, ranks, exact, about.weights))
        line.append(about.paper if costs is None else _measured(costs[name]))
        line.stylize("bold", 0, len(name))
        yield line
        yield Text(f"  {algorithms.summary(name)}")
        yield Text(f"  {_wire(name)}", "dim")
        if costs is not None:
            yield Text(f"  {about.paper}", "dim")
    yield Text(_LEGEND if costs is None else _LEGEND + _MEASURED)


def needs(found: Sequence[Need]) -> Table:
    """A line for each rank."""
    caption = (
        "of one client in a round; memory: tensors at the fullest moment, for the longest texts; "
        "time: alone on this machine; MB = 10⁶ bytes, GiB = 2³⁰"
    )
    table = Table(caption=caption)
    for column in ("rank", "clients", "memory GiB", "time", "MB up", "MB down"):
        table.add_column(column, justify="right")
    for one in found:
        table.add_row(
            str(one.rank), str(one.clients), f"{one.memory / 2**30:.3f}", duration(one.seconds),
            megabytes(one.up / MB), megabytes(one.down / MB),
        )  # fmt: skip
    return table


def _wire(name: str) -> str:
    about, options = algorithms.about(name), algorithms.options(name)
    parts = [f"up {about.up}", f"down {about.down}", f"server {about.server}"]
    if about.personal:
        parts.append("personal models")
    if options:
        parts.append(", ".join(f"{key}={value}" for key, value in options.items()))
    return "; ".join(parts)


def _measured(cost: Cost | None) -> str:
    if cost is None:
        return "needs equal ranks"
    return f"{_span(cost.up):<16} {_span(cost.down)}"


def _span(found: Mapping[int, int]) -> str:
    low, high = (megabytes(end(found.values()) / MB) for end in (min, max))
    return low if low == high else f"{low}–{high}"
