"""Clients and a dense float64 reference for the laws of single algorithms."""

from collections.abc import Sequence

import torch
from torch import Tensor

from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client, Upload

OUT, IN = 8, 6


def template(rank: int) -> Factors:
    a = torch.zeros(rank, IN, dtype=torch.float64)
    return {"w": Factor(a, torch.zeros(OUT, rank, dtype=torch.float64))}


def uploads(
    ranks: Sequence[int], examples: Sequence[int] | None = None, seed: int = 0
) -> list[Upload]:
    """Random factors of these ranks, with different scales."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    counts = examples or [2 + i for i in range(len(ranks))]
    return [
        Upload(Client(f"c{i}", r), {"w": Factor(draw(r, IN), draw(OUT, r), 0.5 + i)}, n)
        for i, (r, n) in enumerate(zip(ranks, counts, strict=True))
    ]


def mean(sent: Sequence[Upload]) -> Tensor:
    """Σ p_i s_i B_i A_i, dense."""
    total = sum(u.examples for u in sent)
    parts = [u.examples / total * u.factors["w"].delta for u in sent]
    return torch.stack(parts).sum(dim=0)


def best(delta: Tensor, rank: int) -> Tensor:
    """The best approximation of this rank, by dense SVD."""
    u, s, v = torch.linalg.svd(delta, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def close(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-10)
