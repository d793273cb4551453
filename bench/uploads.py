"""Made-up uploads of one layer, and what the best answer to them is in float64.

`training`: B_k A_k = U_r Σ_r V_rᵀ + noise, in a basis of client k's own: a signal that all share,
with singular values σ_j = 1/j, and noise as strong as the signal's tenth direction. Low ranks see
the leading directions only. `flat`: independent noise alone, the hardest spectrum for an iterative
method, since no direction stands out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.peers import Upload
from polyrank.seeds import derive

RANKS = (4, 8, 16, 32, 64)
PROBES = 32  # vectors
Spectrum = Literal["training", "flat"]


class Case(NamedTuple):
    """One layer of one round.

    Args:
        out, inn: the layer's shape.
        clients: how many send.
        spectrum: of what they send.
        rank: that the aggregate shall have.
        ranks: that clients have, drawn evenly.
    """

    out: int
    inn: int
    clients: int
    spectrum: Spectrum = "training"
    rank: int = 64
    ranks: tuple[int, ...] = RANKS

    @property
    def layer(self) -> str:
        return f"{self.out}×{self.inn}"


class Best(NamedTuple):
    """What is known of the exact sum, in float64.

    Args:
        square: ‖Δ‖².
        tail: ‖Δ − Δ_R‖², of the best approximation of the rank that is asked for.
    """

    square: float
    tail: float


def make(case: Case) -> dict[str, Tensor]:
    """The uploads by name (b.0, a.0, b.1, …) and their weights, which sum to one."""
    draw = derive(0, "bench", *map(str, case))
    ranks = torch.tensor(case.ranks)[
        torch.randint(len(case.ranks), (case.clients,), generator=draw)
    ]
    weights = torch.rand(case.clients, generator=draw) + 0.5
    top = max(case.ranks)
    u, v = (torch.randn(size, top, generator=draw) / size**0.5 for size in (case.out, case.inn))
    root = torch.arange(1, top + 1).rsqrt()  # √σ_j on either side
    signal, noise = (1.0, 10**-0.5) if case.spectrum == "training" else (0.0, 1.0)
    found = {"weights": weights / weights.sum()}
    for k, rank in enumerate(ranks.tolist()):
        turn = torch.linalg.qr(torch.randn(rank, rank, generator=draw)).Q
        for name, side, size in (("b", u, case.out), ("a", v, case.inn)):
            own = noise * torch.randn(size, rank, generator=draw) / size**0.5
            if signal:
                own += (side[:, :rank] * root[:rank]) @ turn
            found[f"{name}.{k}"] = (own if name == "b" else own.T).contiguous()
    return found


def save(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Where every process maps them into memory, without a copy of its own."""
    save_file(dict(tensors), path)


def load(path: str) -> tuple[list[Upload], list[float]]:
    """The uploads and their weights; every page has been read."""
    tensors = load_file(path)
    weights = tensors["weights"].tolist()
    uploads = [(tensors[f"b.{k}"], tensors[f"a.{k}"]) for k in range(len(weights))]
    for pair in uploads:
        for tensor in pair:
            tensor.sum()
    return uploads, weights


def best(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Best:
    """Of the exact sum Δ in float64, by the Gram matrix of its core or of Δ itself."""
    out, inn = len(uploads[0][0]), uploads[0][1].shape[1]
    if sum(len(a) for _, a in uploads) < min(out, inn):
        b = torch.cat([w * b.double() for (b, _), w in zip(uploads, weights, strict=True)], dim=1)
        a = torch.cat([a.double() for _, a in uploads], dim=0)
        core = torch.linalg.qr(b, mode="r").R @ torch.linalg.qr(a.T, mode="r").R.T
    else:
        core = torch.zeros(out, inn, dtype=torch.float64)
        for (b, a), weight in zip(uploads, weights, strict=True):
            core.addmm_(b.double(), a.double(), alpha=weight)
    squares = torch.linalg.eigvalsh(core @ core.T).clamp_min(0)
    return Best(float(squares.sum()), float(squares[: max(0, len(squares) - rank)].sum()))


def excess(
    uploads: Sequence[Upload], weights: Sequence[float], found: Upload, known: Best
) -> float:
    """‖Δ − BA‖ / ‖Δ − Δ_R‖ − 1 in float64: 0 is the best of rank R, −1 the exact sum.

    Of a stack, whose Gram matrices are larger than Δ, the norm is estimated by its effect on some
    Gaussian vectors: ‖M‖² = E‖Mω‖².
    """
    b, a = (t.double() for t in found)
    if len(a) >= min(len(b), a.shape[1]):
        draw = derive(0, "bench", "probes")
        some = torch.randn(a.shape[1], PROBES, generator=draw, dtype=torch.float64)
        rest = -(b @ (a @ some))
        for (bk, ak), w in zip(uploads, weights, strict=True):
            rest += w * (bk.double() @ (ak.double() @ some))
        return float(rest.norm() / (PROBES * known.tail) ** 0.5 - 1)
    cross = sum(
        w * float(((bk.double().T @ b) * (ak.double() @ a.T)).sum())
        for (bk, ak), w in zip(uploads, weights, strict=True)
    )
    own = float(((b.T @ b) * (a @ a.T)).sum())
    square = max(0.0, known.square - 2 * cross + own)
    return float((square / known.tail) ** 0.5 - 1)
