"""Heat maps on one colour scale, drawn by plotly inside the page itself."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from polyrank.report.figures import grid
from polyrank.report.labels import distinct, plain
from polyrank.report.panels import Heat

FAR = 5  # times the value that nine in ten stay below: beyond it a colour scale is cut there


def heats(
    maps: Sequence[Heat], columns: int, unit: str, row: int = 18, signed: bool = False
) -> Any:
    """Heat maps on one colour scale; white is zero, grey is nothing to show.

    With `signed`, values below zero are red, and few enough values stand in their cells.
    """
    tallest = max(len(m.y) for m in maps)
    gap = 1 if max(tallest, *(len(m.x) for m in maps)) <= 40 else 0
    figure = grid([m.title for m in maps], columns, min(max(row * tallest, 120), 460) + 110)
    for number, heat in enumerate(maps):
        place = {"row": number // columns + 1, "col": number % columns + 1}
        cells = signed and len(heat.x) <= 25
        figure.add_trace(_map(heat, gap, "%{z:+.0f}" if cells else None), **place)
        title = heat.y_title if place["col"] == 1 else ""
        figure.update_xaxes(title_text=heat.x_title, type="category", showgrid=False, **place)
        figure.update_yaxes(
            title_text=title, type="category", autorange="reversed", showgrid=False, **place
        )
    figure.update_layout(
        margin_r=10,
        modebar_orientation="h",
        coloraxis=_scale(maps, unit, signed, figure.layout.height - 60),
        plot_bgcolor="#eceff1",
    )
    return figure


def _scale(maps: Sequence[Heat], unit: str, signed: bool, height: int) -> dict[str, Any]:
    limit, cut = _limit(maps, whole=signed)
    title = f"{unit} (dark: more)" if cut else unit
    bar = {
        "title": {"text": title, "side": "right", "font": {"size": 13}},
        "thickness": 12,
        "outlinewidth": 0,
        "len": min(1.0, 460 / height),
        "yanchor": "top",
        "y": 1,
    }
    scale = "RdBu" if signed else "Blues"
    return {"colorscale": scale, "cmin": -limit if signed else 0, "cmax": limit, "colorbar": bar}


def _map(heat: Heat, gap: int, cells: str | None) -> Any:
    return go.Heatmap(
        x=distinct(heat.x),
        y=distinct(heat.y),
        z=heat.z,
        hovertext=[[plain(t) for t in texts] for texts in heat.text],
        hoverinfo="text",
        texttemplate=cells,
        coloraxis="coloraxis",
        xgap=gap,
        ygap=gap,
    )


def _limit(maps: Sequence[Heat], whole: bool) -> tuple[float, bool]:
    """Where the colour scale ends, and whether it is cut: few far values shall not hide others."""
    values = sorted(abs(v) for m in maps for row in m.z for v in row if v)
    if not values:
        return 1.0, False
    most, usual = values[-1], values[int(0.9 * len(values))]
    return (usual, True) if most > FAR * usual and not whole else (most, False)
