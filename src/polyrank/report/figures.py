"""Panels of lines and bars, drawn by plotly inside the page itself.

Plotly reads HTML and templates in its texts, so every text is escaped and every hover is plain.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from polyrank.report.labels import distinct, plain, short
from polyrank.report.markup import Html, tag
from polyrank.report.panels import Line, Panel
from polyrank.report.style import FONT, GREY, GRID, INK

CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
}
_FIT = "document.addEventListener('toggle', () => window.dispatchEvent(new Event('resize')), true);"
MARGIN = {"l": 10, "r": 44, "t": 40, "b": 10}


def script() -> Html:
    """plotly.js, to be put into the page once; a figure in a closed part fits when it opens."""
    return Html(f"<script>{get_plotlyjs()}\n{_FIT}</script>")


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
    figure = grid([p.title for p in panels], columns, height)
    named: set[str] = set()
    for number, panel in enumerate(panels):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        for line in panel.lines:
            if line.low:
                figure.add_trace(_band(line), **place)
            figure.add_trace(_line(line, first=line.name not in named), **place)
            named.add(line.name)
        _axes(figure, panel, place)
    if shared:
        figure.update_xaxes(matches="x").update_yaxes(matches="y")
        figure.update_layout(xaxis_matches=None, yaxis_matches=None)  # not with itself
    figure.update_layout(showlegend=len(named) > 1)
    return figure


def stacks(
    names: Sequence[str], parts: Mapping[str, tuple[str, Sequence[float]]], unit: str
) -> Any:
    """A stacked bar per name; `parts` maps a part's name to its colour and values."""
    figure = grid([""], 1, 90 + 30 * len(names))
    for part, (colour, values) in parts.items():
        text = [plain(f"{n}\n{part}: {v:,.3f} {unit}") for n, v in zip(names, values, strict=True)]
        bar = go.Bar(
            y=distinct(names),
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
    figure.update_layout(barmode="stack", bargap=0.35, showlegend=True, legend_traceorder="normal")
    return figure


def grid(titles: Sequence[str], columns: int, height: int) -> Any:
    """Empty panels with their titles, in the look of the page.

    Args:
        titles: one for each panel.
        columns: panels side by side.
        height: of a row of panels, in pixels.
    """
    rows = ceil(len(titles) / columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[short(t, 100 // columns) for t in titles],
        horizontal_spacing=0.09 if columns < 3 else 0.06,
        vertical_spacing=min(0.3, 112 / (height * rows)),
    )
    figure.update_layout(
        template="none",
        height=height * rows + 60,
        margin=MARGIN,
        hovermode="closest",
        font={"family": FONT, "size": 13, "color": INK},
        hoverlabel={"align": "left", "bgcolor": "white", "font_size": 12},
        legend={"orientation": "h", "y": 1 + 32 / (height * rows), "yanchor": "bottom", "x": 0},
        modebar={"orientation": "v"},
    )
    figure.update_annotations(font={"size": 14, "color": INK})
    axis = {"automargin": True, "gridcolor": GRID, "linecolor": GREY, "zeroline": False}
    axis |= {"title_font_size": 13, "title_standoff": 6}
    figure.update_xaxes(showline=True, ticks="outside", tickcolor=GREY, **axis)
    figure.update_yaxes(**axis)
    return figure


def _line(line: Line, first: bool) -> Any:
    return go.Scatter(
        x=line.x,
        y=line.y,
        name=short(line.name),
        legendgroup=plain(line.name),
        showlegend=first,
        mode="lines+markers" if len(line.x) <= 25 else "lines",
        line={"color": line.colour, "dash": line.dash, "width": 2},
        marker={"size": 5},
        hovertext=[plain(t) for t in line.text],
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
        legendgroup=plain(line.name),
        showlegend=False,
        hoverinfo="skip",
    )


def _axes(figure: Any, panel: Panel, place: Mapping[str, int]) -> None:
    kind = "log" if panel.log_x else "linear"
    figure.update_xaxes(title_text=panel.x_title, type=kind, **place)
    if panel.ticks:
        figure.update_xaxes(tickvals=panel.ticks, ticktext=[str(t) for t in panel.ticks], **place)
    figure.update_yaxes(title_text=panel.y_title, type="log" if panel.log_y else "linear", **place)
    if panel.log_y:
        figure.update_yaxes(exponentformat="e", **place)
    if panel.from_zero:
        figure.update_yaxes(rangemode="tozero", **place)
    if panel.span:
        figure.update_yaxes(range=panel.span, **place)
