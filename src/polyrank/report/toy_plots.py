"""The toy problem's panels from its plain data: for plotly (`drawn`), and for `svg.chart`.

excess by round and by traffic;  min_{s≤T} ‖∇F(W_s)‖² against T, beside a line c/√T
"""

from collections.abc import Mapping, Sequence
from typing import Any

from polyrank.report import figures
from polyrank.report.panels import Line, Panel
from polyrank.report.style import GREY, colour, dash, indices
from polyrank.report.words import number

Data = Mapping[str, Any]  # as polyrank.reproduce.toy_figures.convergence returns it


def drawn(data: Data) -> Any:
    """All panels as one plotly figure."""
    return figures.lines([by_round(data), by_traffic(data), rates(data)], columns=1, height=460)


def by_round(data: Data) -> Panel:
    """Relative excess loss by round."""
    rounds = range(1, data["rounds"] + 1)
    drawn = _lines(data, "excess", lambda row: [float(t) for t in rounds], banded=True)
    return _panel("Excess loss relative to the start, by round", "round", "excess loss", drawn)


def by_traffic(data: Data) -> Panel:
    """Relative excess loss by what a client has sent and received."""

    def sent(row: Data) -> list[float]:
        return [1e-3 * (a + b) for a, b in zip(row["down"], row["up"], strict=True)]

    drawn = _lines(data, "excess", sent, banded=True)
    unit = "thousand parameters per client and layer, down + up"
    return _panel("Excess loss relative to the start, by traffic", unit, "excess loss", drawn)


def rates(data: Data) -> Panel:
    """The least squared gradient so far against T; a line of slope −½ is the rate O(1/√T)."""
    rounds = [float(t) for t in range(1, data["rounds"] + 1)]
    drawn = _lines(data, "gradient", lambda row: rounds)
    guide = [t**-0.5 for t in rounds]
    drawn.append(Line("1/√T", rounds, guide, [f"1/√{t:.0f}" for t in rounds], GREY, "dash"))
    return _panel("Least squared gradient so far", "T, rounds", "min ‖∇F‖² / ‖∇F(0)‖²", drawn)


def _panel(title: str, x_title: str, y_title: str, drawn: Sequence[Line]) -> Panel:
    return Panel(title, x_title, y_title, drawn, log_x=True, log_y=True)


def _lines(data: Data, key: str, along: Any, banded: bool = False) -> list[Line]:
    """A line per row that has not diverged; its label says where ranks were made equal."""
    rows = [row for row in data["rows"] if all(row[key])]
    order = indices(row["label"] for row in data["rows"])
    return [_line(row, key, along(row), order[row["label"]], banded) for row in rows]


def _line(row: Data, key: str, x: Sequence[float], index: int, banded: bool) -> Line:
    points = row[key]
    y = [p["mean"] for p in points]
    name = row["label"] + (f", rank {row['equal_rank']}" if row["equal_rank"] else "")
    text = [f"{name}\n{key} {number(v)}, learning rate {row['lr']:g}" for v in y]
    halves = [p["half"] for p in points]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    if banded and None not in halves:
        # A band that reached 0 would leave a logarithmic axis.
        low = [max(v - half, v / 10) for v, half in zip(y, halves, strict=True)]
        high = [v + half for v, half in zip(y, halves, strict=True)]
    return Line(name, x, y, text, colour(index), dash(index), low, high)
