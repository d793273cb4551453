"""What clients will need, in a terminal."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from polyrank.client.memory import GIB
from polyrank.experiment.planning import Need
from polyrank.recipe import Recipe
from polyrank.report.records import MB
from polyrank.report.words import duration, megabytes

_COLUMNS = (
    "rank", "clients", "examples", "steps", "GiB", "s a round", "MB up", "MB down", "MB in all",
)  # fmt: skip
_LEGEND = (
    "Of each rank's clients the one with the most examples. GiB: its process at the fullest moment "
    "of a step. Seconds: alone on this machine, by a few steps that were timed. MB = 10⁶ bytes of "
    "its messages in the second round; in all: of every round, both ways."
)


def pictured(recipe: Recipe, needs: Sequence[Need]) -> Group:
    """A line for each rank, and what they come to."""
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for one in needs:
        both = (one.up + one.down) * recipe.rounds * recipe.participation
        table.add_row(
            str(one.rank), str(one.clients), str(one.examples), str(one.steps),
            f"{one.memory / GIB:.2f}", f"{one.seconds:.1f}", megabytes(one.up / MB),
            megabytes(one.down / MB), megabytes(both / MB),
        )  # fmt: skip
    slowest = max(one.seconds for one in needs)
    last = (
        f"{recipe.rounds} rounds: {duration(recipe.rounds * slowest)} if every client has such a "
        "machine, beside what the network takes."
    )
    return Group(table, Text(""), Text(_LEGEND), Text(last))
