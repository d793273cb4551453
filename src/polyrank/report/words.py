"""How numbers are written in a report: percent, MB (10⁶ bytes), times, lists of rounds."""

import math
from collections.abc import Iterable

from polyrank.report.format import Measured
from polyrank.report.metric import ACCURACY, Metric
from polyrank.report.statistics import Estimate

NOTHING = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """0.613 → '61.3 %'."""
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def measured(value: float | None, metric: Metric) -> str:
    """A value of the metric: '61.3 %', '1.8042'."""
    return percent(value) if metric.share or value is None else f"{value:.4f}"


def result(test: Measured) -> str:
    """A measurement in full: 'loss 1.2034  accuracy 61.35%'."""
    loss, right = test["loss"], test["accuracy"]
    told = f"loss {math.nan if loss is None else loss:.4f}"
    if "perplexity" in test:
        return f"{told} per token  perplexity {number(test['perplexity'])}"
    return f"{told}  accuracy {math.nan if right is None else right:6.2%}"


def judged(test: Measured) -> str:
    """A measurement in the run's metric: 'accuracy 61.3 %', 'loss 1.8042 per token'."""
    if "perplexity" in test:
        return f"loss {number(test['loss'], 5)} per token"
    return f"accuracy {percent(test['accuracy'])}"


def with_interval(
    value: Estimate | None, sign: str = "", digits: int = 1, metric: Metric = ACCURACY
) -> str:
    """A share as '61.3 ± 0.8 %', else a number as '1.8042 ± 0.0031'; without ± where there is no
    interval."""
    if value is None:
        return NOTHING
    if not metric.share:
        mean = f"{value.mean:{sign}.4f}".replace("-", "−")
        return mean if value.half is None else f"{mean} ± {value.half:.4f}"
    mean = f"{100 * value.mean:{sign}.{digits}f}".replace("-", "−")
    return f"{mean} %" if value.half is None else f"{mean} ± {100 * value.half:.{digits}f} %"


def perplexity(loss: float) -> float:
    """e to the loss per token; infinite where that has no number."""
    return math.exp(loss) if loss < 700 else math.inf


def number(value: float | None, digits: int = 4) -> str:
    """A plain number with `digits` significant digits."""
    return NOTHING if value is None else f"{value:.{digits}g}".replace("-", "−")


def known(n: int | None) -> str:
    """A whole number, or '?'."""
    return "?" if n is None else f"{n:,}"


def megabytes(value: float) -> str:
    """Three significant digits, but whole MB in full: '0.0123', '4.57', '12,345'."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """'0.8 s', '42 s', '3 min 12 s', '2 h 5 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(n: int, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def ranges(numbers: Iterable[int]) -> str:
    """{1, 2, 3, 7} → '1–3, 7'."""
    spans: list[list[int]] = []
    for n in sorted(set(numbers)):
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)


def listed(words: Iterable[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
