"""What a client's factors start from: rows of A are random, columns of B are zero.

A_jk ~ N(0, 1/in),  B = 0      (rows of expected norm one; the update starts at zero)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.lora.algebra import refill, resize, vacant
from polyrank.lora.factor import Factor, Factors
from polyrank.seeds import derive


def rows(rank: int, width: int, seed: int, layer: str) -> Float[Tensor, "rank in"]:
    """The rows of A that (seed, layer) stands for; a smaller rank gets the leading ones."""
    count = -(-rank * width // 16) * 16  # torch draws 16 at once: so that fewer are the first ones
    drawn = torch.randn(count, generator=derive(seed, "rows", layer))
    return drawn[: rank * width].view(rank, width) / width**0.5


def fresh(like: Factor, rank: int, seed: int, layer: str) -> Factor:
    """Random A and B = 0 at `rank`, for the layer, dtype and device of `like`."""
    a = rows(rank, like.shape[1], seed, layer).to(like.a)
    return Factor(a, like.b.new_zeros(like.shape[0], rank))


def share(factors: Factors, rank: int, seed: int) -> dict[str, Factor]:
    """The leading `rank` slots of every layer, with fresh rows where a slot is empty."""
    return {name: _filled(resize(f, rank), seed, name) for name, f in factors.items()}


def _filled(f: Factor, seed: int, layer: str) -> Factor:
    if not vacant(f).any():
        return f
    return refill(f, rows(f.rank, f.shape[1], seed, layer).to(f.a))
