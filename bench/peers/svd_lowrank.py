"""The dense sum and PyTorch's own randomised SVD of it: what a careful user would write.

`torch.svd_lowrank` (Halko, Martinsson & Tropp, SIAM Review 2011, algorithm 5.1) with ten more
columns than are asked for and its default of two power iterations.
"""

from collections.abc import Sequence

import torch

from bench.peers import Upload


def aggregate(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """ΔW = Σ w_i B_i A_i ≈ U Σ Vᵀ."""
    first_b, first_a = uploads[0]
    total = first_b.new_zeros(len(first_b), first_a.shape[1])
    for (b, a), weight in zip(uploads, weights, strict=True):
        total.addmm_(b, a, alpha=weight)
    torch.manual_seed(0)
    u, s, v = torch.svd_lowrank(total, q=min(rank + 10, *total.shape), niter=2)
    return u[:, :rank] * s[:rank], v[:, :rank].T
