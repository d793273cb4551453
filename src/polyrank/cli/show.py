"""What a run looks like in a terminal: a moving line for the round, a fixed one when it is done."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from polyrank.experiment.events import Began, Event, Replied, RoundDone, Warned
from polyrank.report.metric import Metric
from polyrank.report.records import MB, WAYS, RunRecords, sent
from polyrank.report.statistics import Estimate, Row, summary
from polyrank.report.words import measured, result


class Screen:
    """Shows a run's events while it is entered."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.rounds = self.progress.add_task("rounds", total=None, visible=False)
        self.clients = self.progress.add_task("clients", total=None, visible=False)
        self.label = ""

    def __enter__(self) -> "Screen":
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def watch(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Began(label, folder, done, total):
                self.label = label
                self.say(f"{label} → {folder}" + (f" (from round {done})" if done else ""))
                self.progress.reset(self.rounds, total=total, completed=done, visible=True)
                self.progress.update(self.rounds, description=f"{label}: rounds")
            case Warned(line):
                self.say(f"  warning: {line}")
            case Replied(number, expected, reply):
                first = f"round {number}: client {reply.client.id} (rank {reply.client.rank})"
                self.progress.update(self.clients, total=expected, visible=True, description=first)
                self.progress.advance(self.clients)
                if reply.alone:
                    self.say(f"  round {number}: {reply.client.id} trained alone: {reply.alone}")
                if reply.failure:
                    self.say(f"  left out of round {number}: {reply.client.id}: {reply.failure}")
            case RoundDone(record):
                self.progress.reset(self.clients, visible=False)
                self.progress.advance(self.rounds)
                self.say(round_line(record))
                if warning := record["info"].get("warning"):
                    self.say(f"  warning: {warning}")

    def say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)


class Bar:
    """A bar for work that is counted, while it is entered."""

    def __init__(self, console: Console, label: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.progress = Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console,
            disable=not console.is_terminal,
        )  # fmt: skip
        self.task = self.progress.add_task(label, total=None)

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def show(self, done: int, total: int) -> None:
        """So many are done, of so many."""
        self.progress.update(self.task, completed=done, total=total)


def round_line(record: Any) -> str:
    """One line per round: how good the model is, MB up and down, seconds, N_eff."""
    test = record["test"]
    up, down = (sum(b["total"] for b in sent(record, way)) / MB for way in WAYS)
    parts = [
        result(test) if test else "not evaluated",
        f"up {up:.2f} MB  down {down:.2f} MB  {record['seconds']:.1f} s",
        *([f"N_eff {record['info']['n_eff']:.1f}"] if "n_eff" in record["info"] else []),
        *(["nobody counted: state unchanged"] if record["unchanged"] else []),
    ]
    return f"  round {record['round']:3d}  " + "  ".join(parts)


def summary_table(runs: Sequence[RunRecords]) -> Table:
    """The comparison: mean ± half the 95 % interval over seeds, best first."""
    target = next((r.run["recipe"]["evaluation"]["target"] for r in runs), None)
    rows = summary(runs, target)
    metric = rows[0].metric
    goal = "rounds" if target is None else f"to {measured(target, metric)}"
    table = Table(caption=f"mean ± 95 % interval over seeds; gain in {metric.unit}; MB = 10⁶ bytes")
    table.add_column("algorithm", no_wrap=True)
    name = f"{metric.name} %" if metric.share else metric.name
    for column in ("seeds", name, "gain", goal, "MB up", "MB down", "s"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(Text, _cells(row, target)))
    return table


def _cells(row: Row, target: float | None) -> list[str]:
    reached = "–" if row.rounds_to_target is None else f"{row.rounds_to_target:.1f}"
    if target is not None and row.missed:
        reached = f"{row.seeds - row.missed} of {row.seeds}"
    return [
        row.label,
        str(row.seeds),
        _points(row.score, row.metric),
        _points(row.gain, row.metric, "+"),
        reached,
        f"{row.mb_up:.2f}",
        f"{row.mb_down:.2f}",
        f"{row.seconds:.0f}",
    ]


def _points(estimate: Estimate | None, metric: Metric, sign: str = "-") -> str:
    if estimate is None:
        return "–"
    digits = 1 if metric.share else 4
    half = "" if estimate.half is None else f" ± {metric.scale * estimate.half:.{digits}f}"
    return f"{metric.scale * estimate.mean:{sign}.{digits}f}{half}"
