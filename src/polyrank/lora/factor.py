"""The one noun: a low-rank factor, and an adapter made of them.

    ΔW = scale · B A,   A: (rank, in),   B: (out, rank)

A factor carries its own scale (α/r, or α/√r), so that no later room needs to know α.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.errors import RankError


@dataclass(frozen=True, slots=True)
class Factor:
    """One layer's update in factored form; slot j is row j of `a` with column j of `b`."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2:
            raise RankError(f"A and B have {self.a.ndim} and {self.b.ndim} dimensions, not 2")
        if self.a.shape[0] != self.b.shape[1]:
            raise RankError(f"A has rank {self.a.shape[0]} but B has rank {self.b.shape[1]}")

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the layer."""
        return int(self.b.shape[0]), int(self.a.shape[1])

    @property
    def delta(self) -> Float[Tensor, "out in"]:
        """The dense update; only for a state, a base or an oracle that is dense itself."""
        if _identity(self.a):
            return self.scale * self.b
        return self.scale * self.a if _identity(self.b) else (self.scale * self.b) @ self.a


def parameters(f: Factor) -> int:
    """How many numbers a factor holds: r(m+n); a side that does not travel has none."""
    return f.a.numel() + f.b.numel()


def _identity(side: Tensor) -> bool:
    """Whether a side is nothing but the frame of a dense update: then a product is saved."""
    square = side.shape[0] == side.shape[1] and len(side) > 0
    return square and torch.equal(side, torch.eye(len(side), dtype=side.dtype, device=side.device))


Factors = Mapping[str, Factor]  # layer name -> factor
Dense = Mapping[str, Tensor]  # tensor name -> a tensor that is trained whole (the head)


@dataclass(frozen=True, slots=True)
class Adapter:
    """All that training changes: factors by layer, and the few tensors trained whole."""

    factors: Factors
    dense: Dense = field(default_factory=dict)
