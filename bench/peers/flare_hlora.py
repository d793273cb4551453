"""QR-core, as NVIDIA FLARE's example for mixed ranks does it.

`HLoRAMaxRankAggregator` in examples/advanced/medgemma/custom_aggregators.py of
https://github.com/NVIDIA/NVFlare, after HLoRA (https://arxiv.org/abs/2503.00813): both factors
times √w, stacked, a reduced QR of each side, the SVD of the core in between; the singular values
go to A.
"""

import math
from collections.abc import Sequence

import torch

from bench.peers import Upload


def aggregate(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """[√w_i B_i] = Q_b R_b, [√w_i A_i]ᵀ = Q_a R_a, R_b R_aᵀ = U Σ Vᵀ."""
    roots = [math.sqrt(w) for w in weights]
    left = torch.cat([b * root for (b, _), root in zip(uploads, roots, strict=True)], dim=1)
    right = torch.cat([a * root for (_, a), root in zip(uploads, roots, strict=True)], dim=0)
    q_left, r_left = torch.linalg.qr(left, mode="reduced")
    q_right, r_right = torch.linalg.qr(right.transpose(0, 1), mode="reduced")
    middle = r_left @ r_right.transpose(0, 1)
    u_hat, values, vh_hat = torch.linalg.svd(middle, full_matrices=False)
    kept = min(rank, len(values))
    b = torch.zeros(len(left), rank)
    a = torch.zeros(rank, right.shape[1])
    b[:, :kept] = q_left @ u_hat[:, :kept]
    a[:kept] = torch.diag(values[:kept]) @ (vh_hat[:kept] @ q_right.transpose(0, 1))
    return b, a
