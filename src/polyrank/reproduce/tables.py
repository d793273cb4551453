"""What the pages of results share: Markdown, means with intervals, ties, paired differences.

mean ± half the 95 % interval (Student);  a tie with the best: intervals that overlap its interval
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Literal

from polyrank.report.statistics import Estimate, estimate
from polyrank.report.words import NOTHING
from polyrank.reproduce.grid import Row

Index = Mapping[tuple[str, str, int], Row]  # rows by (label, cell, seed)
Standing = Literal["ahead", "tie", "behind"]


def prose(text: str) -> str:
    """A paragraph of lines that fit 100 columns."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column left, the others right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))


def code(names: Iterable[str]) -> list[str]:
    """Names as code."""
    return [f"`{name}`" for name in names]


def said(value: Estimate | None, sign: str = "", digits: int = 1, factor: float = 100.0) -> str:
    """'61.3 ± 0.8': a share in percent, a difference in points; another factor, another unit."""
    if value is None:
        return NOTHING
    mean = f"{factor * value.mean:{sign}.{digits}f}".replace("-", "−")
    return mean if value.half is None else f"{mean} ± {factor * value.half:.{digits}f}"


def bold(text: str, when: bool) -> str:
    """The text, in bold where it shall be."""
    return f"**{text}**" if when else text


def ties(values: Mapping[str, Estimate], least: bool = False) -> set[str]:
    """The best mean's name and all whose interval overlaps its interval."""
    if not values:
        return set()
    best = (min if least else max)(values.values(), key=lambda v: v.mean)
    return {name for name, v in values.items() if v.low <= best.high and best.low <= v.high}


def index(rows: Iterable[Row], *parts: str) -> Index:
    """The rows of some parts of an experiment by label, cell and seed."""
    return {(row["label"], row["cell"], row["seed"]): row for row in rows if row["part"] in parts}


def over_seeds(found: Index, label: str, cells: Sequence[str], seeds: Sequence[int]) -> Estimate:
    """Accuracy: of each seed the mean over the cells, then mean and interval over the seeds.

    Raises:
        KeyError: a row is missing.
    """
    each = [fmean(found[label, cell, seed]["accuracy"] for cell in cells) for seed in seeds]
    return _certain(each)


def paired(
    found: Index, label: str, other: str, cells: Sequence[str], seeds: Sequence[int]
) -> Estimate:
    """Accuracy of one less that of the other, same cell and seed: mean and interval over all pairs.

    Raises:
        KeyError: a row is missing.
    """
    pairs = [(cell, seed) for cell in cells for seed in seeds]
    gaps = [found[label, *p]["accuracy"] - found[other, *p]["accuracy"] for p in pairs]
    return _certain(gaps)


def mean_of(
    found: Index, key: str, label: str, cells: Sequence[str], seeds: Sequence[int]
) -> float:
    """The mean of a row's number, such as mb_up, over cells and seeds."""
    return fmean(found[label, cell, seed][key] for cell in cells for seed in seeds)


def done(
    found: Index, labels: Sequence[str], cells: Iterable[str], seeds: Sequence[int]
) -> list[str]:
    """The cells in which every label has every seed."""
    return [
        cell
        for cell in cells
        if all((label, cell, seed) in found for label in labels for seed in seeds)
    ]


def standing(gap: Estimate) -> Standing:
    """On which side of 0 the interval of a difference lies."""
    if gap.low > 0:
        return "ahead"
    return "behind" if gap.high < 0 else "tie"


def _certain(values: Sequence[float]) -> Estimate:
    found = estimate(values)
    if found is None:
        raise ValueError("no value to take the mean of")
    return found
