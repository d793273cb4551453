"""What a figure shows, before anybody draws it: lines and heat maps, with their words."""

from collections.abc import Sequence
from dataclasses import dataclass


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
    from_zero: bool = False
    ticks: Sequence[int] = ()
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
