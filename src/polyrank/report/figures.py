"""Panels of lines, bars and heat maps, drawn by plotly inside the page itself.

Plotly reads HTML and templates in its texts, so every text is escaped and every hover is plain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from polyrank.report.markup import Html, tag
from polyrank.report.style import FONT, GREY, GRID, INK

CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d"],
}
MARGIN = {"l": 10, "r": 10, "t": 40, "b": 10}
LONG = 26  # characters of a name that a legend or axis shows


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; `text` is shown on hover, `low` and `high` are its band."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    text: Sequence[str]
    colour: str
    dash: str = "solid"
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share axes; `span` limits y where bands or outliers would squeeze the lines."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    ticks: Sequence[float] = ()
    span: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Heat:
    """A heat map: `z[row][column]`, None where there is nothing to show."""

    title: str
    x_title: str
    y_title: str
    x: Sequence[str]
    y: Sequence[str]
    z: Sequence[Sequence[float | None]]
    text: Sequence[Sequence[str]]


def script() -> Html:
    """plotly.js, to be put into the page once."""
    return Html(f"<script>{get_plotlyjs()}</script>")


def html(figure: Any, id: str) -> Html:
    """The figure's place in the page and the call that draws it."""
    drawn = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config=CONFIG,
        div_id=id,
        default_height=f"{figure.layout.height}px",
    )
    return tag("div", Html(drawn), class_="plot")


def sequence(n: int) -> list[str]:
    """n colours from dark to light that keep their order in grey print."""
    return [
        str(c) for c in sample_colorscale("Viridis", [0.9 * i / max(n - 1, 1) for i in range(n)])
    ]


def lines(panels: Sequence[Panel], columns: int, height: int = 340, shared: bool = False) -> Any:
    """Panels side by side with one legend: a click on a name hides it in all of them."""
    figure = _grid([p.title for p in panels], columns, height, shared)
    named: set[str] = set()
    for number, panel in enumerate(panels):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        for line in panel.lines:
            if line.low:
                figure.add_trace(_band(line), **place)
            figure.add_trace(_line(line, first=line.name not in named), **place)
            named.add(line.name)
        _axes(figure, panel, place)
    figure.update_layout(showlegend=len(named) > 1)
    return figure


def heats(maps: Sequence[Heat], columns: int, unit: str, row: int = 18) -> Any:
    """Heat maps on one colour scale; white is zero, grey is nothing to show."""
    tallest = max(len(m.y) for m in maps)
    figure = _grid([m.title for m in maps], columns, min(max(row * tallest, 120), 460) + 110)
    for number, heat in enumerate(maps):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        trace = go.Heatmap(
            x=_distinct(heat.x),
            y=_distinct(heat.y),
            z=heat.z,
            hovertext=[[_plain(t) for t in texts] for texts in heat.text],
            hoverinfo="text",
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
        )
        figure.add_trace(trace, **place)
        figure.update_xaxes(title_text=heat.x_title, type="category", showgrid=False, **place)
        figure.update_yaxes(
            title_text=heat.y_title, type="category", autorange="reversed", showgrid=False, **place
        )
    bar = {"title": {"text": unit, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    figure.update_layout(
        coloraxis={"colorscale": "Blues", "cmin": 0, "colorbar": bar}, plot_bgcolor="#eceff1"
    )
    return figure


def stacks(
    names: Sequence[str], parts: Mapping[str, tuple[str, Sequence[float]]], unit: str
) -> Any:
    """A stacked bar per name; `parts` maps a part's name to its colour and values."""
    figure = _grid([""], 1, 90 + 30 * len(names))
    for part, (colour, values) in parts.items():
        text = [_plain(f"{n}\n{part}: {v:,.3f} {unit}") for n, v in zip(names, values, strict=True)]
        bar = go.Bar(
            y=_distinct(names),
            x=values,
            name=part,
            orientation="h",
            marker_color=colour,
            hovertext=text,
            hoverinfo="text",
        )
        figure.add_trace(bar)
    figure.update_yaxes(type="category", autorange="reversed")
    figure.update_xaxes(title_text=unit)
    figure.update_layout(barmode="stack", bargap=0.35, showlegend=True)
    return figure


def _grid(titles: Sequence[str], columns: int, height: int, shared: bool = False) -> Any:
    rows = ceil(len(titles) / columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[_short(t, 60) for t in titles],
        shared_xaxes="all" if shared else False,
        shared_yaxes="all" if shared else False,
        horizontal_spacing=0.09 if columns < 3 else 0.06,
        vertical_spacing=min(0.28, 95 / (height * rows)),
    )
    figure.update_layout(
        template="none",
        height=height * rows + 60,
        margin=MARGIN,
        hovermode="closest",
        font={"family": FONT, "size": 13, "color": INK},
        hoverlabel={"align": "left", "bgcolor": "white", "font_size": 12},
        legend={"orientation": "h", "yref": "container", "y": 1, "yanchor": "top", "x": 0},
    )
    figure.update_annotations(font={"size": 14, "color": INK})
    axis = {"automargin": True, "gridcolor": GRID, "linecolor": GREY, "zeroline": False}
    figure.update_xaxes(showline=True, ticks="outside", tickcolor=GREY, **axis)
    figure.update_yaxes(**axis)
    return figure


def _line(line: Line, first: bool) -> Any:
    return go.Scatter(
        x=line.x,
        y=line.y,
        name=_short(line.name),
        legendgroup=_plain(line.name),
        showlegend=first,
        mode="lines+markers" if len(line.x) <= 25 else "lines",
        line={"color": line.colour, "dash": line.dash, "width": 2},
        marker={"size": 5},
        hovertext=[_plain(t) for t in line.text],
        hoverinfo="text",
    )


def _band(line: Line) -> Any:
    """The interval as a closed shape, hidden and shown with its line."""
    return go.Scatter(
        x=[*line.x, *reversed(line.x)],
        y=[*line.high, *reversed(line.low)],
        fill="toself",
        fillcolor=f"rgba{(*bytes.fromhex(line.colour[1:]), 0.15)}",
        line={"width": 0},
        mode="lines",
        legendgroup=_plain(line.name),
        showlegend=False,
        hoverinfo="skip",
    )


def _axes(figure: Any, panel: Panel, place: Mapping[str, int]) -> None:
    kind = "log" if panel.log_x else "linear"
    figure.update_xaxes(title_text=panel.x_title, type=kind, **place)
    if panel.ticks:
        figure.update_xaxes(tickvals=panel.ticks, ticktext=[f"{t:g}" for t in panel.ticks], **place)
    figure.update_yaxes(title_text=panel.y_title, type="log" if panel.log_y else "linear", **place)
    if panel.log_y:
        figure.update_yaxes(exponentformat="power", dtick=1, **place)
    if panel.span:
        figure.update_yaxes(range=panel.span, **place)


def _plain(text: str) -> str:
    return escape(text, quote=False).replace("\n", "<br>")


def _distinct(names: Sequence[str]) -> list[str]:
    """Names for a category axis, cut short unless that makes two of them one."""
    cut = [_short(name) for name in names]
    return cut if len(set(cut)) == len(cut) else [_plain(name) for name in names]


def _short(text: str, limit: int = LONG) -> str:
    return _plain(text if len(text) <= limit else text[: limit - 1] + "…")
