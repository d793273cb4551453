"""A chart's axis: where a value lies, and which round numbers are written beside it.

px(v) = start + (end − start) · (f(v) − f(low)) / (f(high) − f(low)),   f = log₁₀, or v itself
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels.

    Args:
        low: the value at `start`.
        high: the value at `end`.
        start: px.
        end: px.
        log: whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        f: Callable[[float], float] = math.log10 if self.log else float
        share = (f(value) - f(self.low)) / (f(self.high) - f(self.low))
        return self.start + (self.end - self.start) * share

    def shows(self, value: float | None) -> bool:
        """Whether the value is there and within the axis."""
        return value is not None and self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Round numbers within the axis: 1, 2, 5 of every decade, or equal steps."""
        return _decades(self) if self.log else _steps(self)


def spanning(values: Sequence[float], start: float, end: float, log: bool) -> Axis:
    """The axis from the least to the largest value; a logarithmic one takes the positive ones.

    Raises:
        ValueError: there is no value that it can show.
    """
    known = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not known:
        raise ValueError("no line has a point that the axes can show")
    low, high = min(known), max(known)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 1, high + 1)
    return Axis(low, high, start, end, log)


def airy(axis: Axis) -> Axis:
    """A twentieth of its length more at the lower end, so that no line runs along the frame."""
    if axis.log:
        return replace(axis, low=axis.low * (axis.low / axis.high) ** 0.05)
    return replace(axis, low=axis.low - 0.05 * (axis.high - axis.low))


def _decades(axis: Axis) -> list[float]:
    first, last = (math.floor(math.log10(v)) for v in (axis.low, axis.high))
    each = (1, 2, 5) if last - first <= 3 else (1,)
    found = [m * 10.0**k for k in range(first, last + 1) for m in each]
    return [v for v in found if axis.shows(v)]


def _steps(axis: Axis) -> list[float]:
    rough = (axis.high - axis.low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    return [k * step for k in range(first, last + 1)]
