"""What a section of the benchmark is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Row = dict[str, object]  # column name -> a JSON value


def _nobody(row: Row) -> None:
    """Who is told of a row where nobody listens."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine can do, measured in this run; and how much is asked of it.

    Args:
        threads: that everything in the run uses.
        matmul: by dtype name, and by who multiplies where it is not torch itself, the peak of a
            matrix product in FLOP/s.
        copy: bytes/s of a copy in memory (of the source, which is read once).
        tiny: the same code at sizes that take seconds, for the tests.
        tell: hears of each row as soon as it is measured, so that an interrupted run keeps it.
    """

    threads: int
    matmul: Mapping[str, float]
    copy: float
    tiny: bool = False
    tell: Callable[[Row], None] = _nobody

    def peak(self, dtype: str) -> float:
        """FLOP/s of the quickest product of a dtype, whoever computes it."""
        return max(value for name, value in self.matmul.items() if name.startswith(dtype))

    @property
    def bf16(self) -> bool:
        """Whether bf16 pays here: not where its products are slower than those of float32."""
        return self.matmul["bfloat16"] > self.matmul["float32"]


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the benchmark.

    Args:
        title: its heading.
        rows: flat, in the table's order.
        ratios: what later runs are held against; of a name with `_over_` less is better.
        notes: how to read the table, a sentence or more each.
        spread: by ratio, how far it moved between repetitions, relative to the median.
    """

    title: str
    rows: list[Row]
    ratios: dict[str, float]
    notes: list[str]
    spread: dict[str, float] = field(default_factory=dict)
