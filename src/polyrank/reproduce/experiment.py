"""What an experiment is: stages of trials, and the part of the results page made of their rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from polyrank.reproduce.grid import Row, Trial

Stage = Callable[[Sequence[Row]], list[Trial]]  # what to do next, given all rows so far


class Section(NamedTuple):
    """A part of the results page.

    Args:
        text: Markdown, from its `## ` heading on.
        figures: SVG by file name, to lie in docs/figures and be linked as figures/<name>.
    """

    text: str
    figures: Mapping[str, str]


class Experiment(NamedTuple):
    """One of the experiments that `polyrank reproduce` knows.

    Args:
        run: does trials one after another, and appends each one's row to a file at once.
        stages: (folder of local data sets, quick or not) -> the stages in their order.
        section: the rows -> its part of the results page.
        also: an experiment that has trials in common, which are not done twice.
    """

    run: Callable[[Sequence[Trial], Path], None]
    stages: Callable[[Path, bool], list[Stage]]
    section: Callable[[Sequence[Row]], Section]
    also: str | None = None
