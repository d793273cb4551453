"""A problem whose optimum is known: federated linear regression, played by dense clients.

    F_i(W) = ½‖(W − W*_i) Σ^½‖²,   F = Σ_i q_i F_i,   W* = Σ_i q_i W*_i
    ∇F_i(W) = (W − W*_i) Σ,   local step:  G = ∇F_i(W) + noise,  B ← B − η s G Aᵀ,  A ← A − η s Bᵀ G

Clients hold equal data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.client.rules import leading
from polyrank.lora.factor import Factor
from polyrank.lora.spectral import recompress
from polyrank.messages import Client, Prune
from polyrank.seeds import derive

LAYER = "w"
EXAMPLES = 100  # of every client, so that weights by data are equal
Matrix = Float[Tensor, "out in"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the problem is, and what a client does in a round.

    Args:
        size: W is size × size.
        ranks: one per client.
        largest: the first singular value of W*.
        decay: σ_j = largest · decay^j of W*.
        spread: ‖W*_i − W*‖ relative to ‖W*‖; 0 for clients that want the same.
        condition: largest over smallest eigenvalue of Σ.
        noise: standard deviation of each entry of a gradient's noise.
        steps: local steps in a round.
    """

    size: int = 64
    ranks: tuple[int, ...] = (32, 16, 16, 8, 8, 4, 4, 4, 2, 2)
    largest: float = 3.0
    decay: float = 0.9
    spread: float = 0.5
    condition: float = 1.0
    noise: float = 0.5
    steps: int = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """Where the clients want to go, and how steep it is.

    Args:
        optimum: W*.
        optima: by client, W*_i; their mean is W*.
        covariance: the diagonal of Σ.
    """

    optimum: Matrix
    optima: Mapping[str, Matrix]
    covariance: Float[Tensor, " in"]


def problem(setting: Setting, seed: int) -> Problem:
    """Random singular vectors, a spectrum that decays, and optima around their mean."""
    n, ids = setting.size, [c.id for c in clients(setting.ranks)]
    left, right = (_orthonormal(n, seed, side) for side in ("left", "right"))
    values = setting.largest * setting.decay ** torch.arange(n, dtype=torch.float64)
    optimum = (left * values) @ right.T
    apart = torch.stack([normal((n, n), seed, "optimum", id) for id in ids])
    apart = apart - apart.mean(dim=0)
    apart = setting.spread * optimum.norm() * apart / apart.norm(dim=(1, 2), keepdim=True).mean()
    falling = torch.linspace(0, 1, n, dtype=torch.float64)
    return Problem(
        optimum,
        {id: optimum + shift for id, shift in zip(ids, apart, strict=True)},
        setting.condition**-falling,
    )


def clients(ranks: Sequence[int]) -> list[Client]:
    """One client per rank, all with the same number of examples."""
    return [Client(f"c{i}", rank, examples=EXAMPLES) for i, rank in enumerate(ranks)]


def template(setting: Setting, rank: int) -> dict[str, Factor]:
    """The one layer, empty, at a rank."""
    zeros = torch.zeros(setting.size, rank, dtype=torch.float64)
    return {LAYER: Factor(zeros.T.clone(), zeros)}


def excess(of: Problem, w: Matrix) -> float:
    """F(W) − F(W*) = ½‖(W − W*) Σ^½‖²."""
    return float(((w - of.optimum).square() * of.covariance).sum() / 2)


def gradient(of: Problem, w: Matrix) -> Matrix:
    """∇F(W) = (W − W*) Σ."""
    return (w - of.optimum) * of.covariance


def factor_gradients(f: Factor, g: Matrix, train: str, core: Tensor | None = None) -> Factor:
    """Of a loss with gradient G at ΔW = s·B C A: (Cᵀ Bᵀ G, G Aᵀ Cᵀ)·s; 0 where not trained."""
    left, right = (f.b, f.a) if core is None else (f.b @ core, core @ f.a)
    a = f.scale * left.T @ g if "a" in train else torch.zeros_like(f.a)
    return Factor(a, f.scale * g @ right.T if "b" in train else torch.zeros_like(f.b))


def core_gradient(f: Factor, g: Matrix) -> Tensor:
    """Of the same loss, for the core: s·Bᵀ G Aᵀ."""
    return f.scale * f.b.T @ g @ f.a.T


def tail_gradients(f: Factor, prune: Prune) -> Factor:
    """Of s·‖B[:, k:]‖·‖A[k:]‖, the tail that self-pruning pulls at; 0 for a tail that is 0."""
    k = leading(f.rank, prune)
    a, b = torch.zeros_like(f.a), torch.zeros_like(f.b)
    long, wide = f.a[k:].norm(), f.b[:, k:].norm()
    if long > 0 and wide > 0:
        a[k:], b[:, k:] = f.scale * wide / long * f.a[k:], f.scale * long / wide * f.b[:, k:]
    return Factor(a, b)


def normal(shape: tuple[int, ...], seed: int, *path: str | int) -> Tensor:
    """Standard normal float64 numbers, named by a path."""
    # Drawn in float32, which is several times faster; noise needs no more.
    return torch.randn(shape, generator=derive(seed, *path)).double()


def _orthonormal(n: int, seed: int, side: str) -> Matrix:
    """A random basis: the singular vectors of a random matrix."""
    return recompress(Factor(torch.eye(n, dtype=torch.float64), normal((n, n), seed, side))).a
