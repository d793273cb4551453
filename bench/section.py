"""What a section of the benchmark is given, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine can do, measured in this run.

    Args:
        threads: that everything in the run uses.
        matmul: by dtype name, the peak of a matrix product in FLOP/s.
        copy: bytes/s of a copy in memory.
    """

    threads: int
    matmul: Mapping[str, float]
    copy: float


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the benchmark.

    Args:
        title: its heading.
        rows: flat, in the table's order.
        ratios: what later runs are held against; of a name with `_over_` less is better.
        notes: how to read the table.
    """

    title: str
    rows: list[dict[str, object]]
    ratios: dict[str, float]
    notes: list[str]
