"""A panel of lines as one static SVG file, for pages that run no script."""

from collections.abc import Sequence

from polyrank.report.axis import Axis, airy, spanning
from polyrank.report.markup import Html, tag
from polyrank.report.panels import Line, Panel
from polyrank.report.style import FONT, GREY, GRID, INK

DASHES = {"solid": "", "dash": "7 4", "dot": "2 4"}
LEFT, TOP, BOTTOM = 68.0, 44.0, 56.0  # px around the plot; names go to its right
NAMES, ROW = 210.0, 18.0  # px: the column of names, and one of them


def chart(panel: Panel, width: float = 860.0, height: float = 480.0) -> str:
    """The panel as an SVG document, its lines named at their right ends.

    Args:
        panel: what to draw; bands are drawn where lines have them; `span` limits y.
        width: px.
        height: px; more where the names need it.

    Raises:
        ValueError: no line has a point that the axes can show.
    """
    height = max(height, TOP + BOTTOM + ROW * len(panel.lines))
    x = spanning([v for line in panel.lines for v in line.x], LEFT, width - NAMES, panel.log_x)
    values = [v for line in panel.lines for v in line.y if v is not None]
    y = spanning(panel.span or values, height - BOTTOM, TOP, panel.log_y)
    y = y if panel.span else airy(y)
    drawn = [line for line in panel.lines if _points(line, x, y)]
    parts = [
        tag("title", panel.title),
        tag("rect", width=_px(width), height=_px(height), fill="#ffffff"),
        _text(panel.title, LEFT, 24.0, size=16, weight="600"),
        *_grid(panel, x, y),
        *(_band(line, x, y) for line in drawn if line.low),
        *(_stroke(line, _points(line, x, y)) for line in drawn),
        *_names(drawn, x, y),
    ]
    whole = tag(
        "svg", *parts, xmlns="http://www.w3.org/2000/svg", role="img", font_family=FONT,
        viewBox=f"0 0 {_px(width)} {_px(height)}", width=_px(width), height=_px(height),
    )  # fmt: skip
    return whole.text + "\n"


def _points(line: Line, x: Axis, y: Axis) -> list[tuple[float, float]]:
    pairs = zip(line.x, line.y, strict=True)
    return [(x(a), y(b)) for a, b in pairs if b is not None and x.shows(a) and y.shows(b)]


def _stroke(line: Line, points: Sequence[tuple[float, float]]) -> Html:
    drawn = tag(
        "path", d=_path(points), fill="none", stroke=line.colour, stroke_width="2",
        stroke_linejoin="round", stroke_dasharray=DASHES[line.dash],
    )  # fmt: skip
    return tag("g", tag("title", line.name), drawn)


def _band(line: Line, x: Axis, y: Axis) -> Html:
    """The interval, cut to the axis."""
    edges = [(a, low, high) for a, low, high in zip(line.x, line.low, line.high, strict=True)
             if x.shows(a)]  # fmt: skip
    upper = [(x(a), y(min(max(high, y.low), y.high))) for a, _, high in edges]
    lower = [(x(a), y(min(max(low, y.low), y.high))) for a, low, _ in reversed(edges)]
    return tag("path", d=_path([*upper, *lower]) + "Z", fill=line.colour, fill_opacity="0.13")


def _grid(panel: Panel, x: Axis, y: Axis) -> list[Html]:
    parts = []
    for value in y.ticks():
        parts.append(_rule(x.start, y(value), x.end, y(value), GRID))
        parts.append(_text(_label(value), x.start - 8, y(value) + 4, anchor="end"))
    for value in panel.ticks or x.ticks():
        parts.append(_rule(x(value), y.start, x(value), y.start + 5, GREY))
        parts.append(_text(_label(value), x(value), y.start + 20, anchor="middle"))
    turn = f"translate(18 {_px((y.start + y.end) / 2)}) rotate(-90)"
    return [
        *parts,
        _rule(x.start, y.start, x.end, y.start, GREY),
        _text(panel.x_title, (x.start + x.end) / 2, y.start + 42, anchor="middle"),
        tag("g", _text(panel.y_title, 0.0, 0.0, anchor="middle"), transform=turn),
    ]


def _names(lines: Sequence[Line], x: Axis, y: Axis) -> list[Html]:
    """Each line's name in a column, as near to its end as its neighbours allow."""
    ends = [(*_points(line, x, y)[-1], line) for line in lines]
    ends.sort(key=lambda end: end[1])
    parts = []
    for (right, height, line), top in zip(ends, _apart([e[1] for e in ends], y), strict=True):
        parts.append(_rule(right + 3, height, x.end + 22, top, GRID))
        parts.append(
            tag("path", d=_path([(x.end + 24, top), (x.end + 50, top)]), stroke=line.colour,
                stroke_width="2", stroke_dasharray=DASHES[line.dash])
        )  # fmt: skip
        parts.append(_text(line.name, x.end + 56, top + 4))
    return parts


def _apart(wanted: Sequence[float], y: Axis) -> list[float]:
    """Ascending heights at least a row apart, pushed down first and then up from the bottom."""
    placed: list[float] = []
    for height in wanted:
        placed.append(max(height, placed[-1] + ROW if placed else y.end))
    limit = y.start
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - ROW
    return placed


def _text(
    words: str, x: float, y: float, anchor: str = "start", size: int = 13, weight: str = ""
) -> Html:
    return tag(
        "text", words, x=_px(x), y=_px(y), text_anchor=anchor, font_size=str(size),
        font_weight=weight, fill=INK,
    )  # fmt: skip


def _rule(x0: float, y0: float, x1: float, y1: float, colour: str) -> Html:
    return tag("line", x1=_px(x0), y1=_px(y0), x2=_px(x1), y2=_px(y1), stroke=colour)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_px(a)} {_px(b)}" for a, b in points)


def _label(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e−").replace("e-", "e−").replace("e+0", "e")
    return f"{value:g}"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
