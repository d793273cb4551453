"""FlexLoRA: the dense weighted sum of all products, its full SVD, and the leading slice.

Bai et al., NeurIPS 2024 (https://arxiv.org/abs/2402.11505), as its authors do it in their branch
of FederatedScope (https://github.com/alibaba/FederatedScope/tree/FlexLoRA): `torch.linalg.svd` of
the full-size weight, sliced to the rank that is asked for.
"""

from collections.abc import Sequence

import torch

from bench.peers import Upload


def aggregate(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """ΔW = Σ w_i B_i A_i = U Σ Vᵀ,  B = U Σ [:, :rank],  A = Vᵀ[:rank]."""
    total = None
    for (b, a), weight in zip(uploads, weights, strict=True):
        one = weight * (b @ a)
        total = one if total is None else total + one
    assert total is not None
    u, s, vt = torch.linalg.svd(total, full_matrices=False)
    return u[:, :rank] * s[:rank], vt[:rank]
