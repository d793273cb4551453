"""FLoRA's stacking: the exact sum, whose rank is that of all clients together.

Wang et al., NeurIPS 2024 (https://arxiv.org/abs/2409.05976). Their code, `FedAvg(...,
stacking=True, heter=True)` in fed_utils/model_aggregation.py of
https://github.com/ATP-1010/FederatedLLM, concatenates client by client (`repeated`), so that all
that is there already is copied again for each; `once` is the same matrix by one concatenation.
"""

from collections.abc import Sequence

import torch

from bench.peers import Upload


def repeated(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """A = [w_1 A_1; w_2 A_2; …], B = [B_1, B_2, …], one client after another."""
    total_b, total_a = uploads[0][0], uploads[0][1] * weights[0]
    for (b, a), weight in zip(uploads[1:], weights[1:], strict=True):
        total_a = torch.cat([total_a, a * weight], dim=0)
        total_b = torch.cat([total_b, b], dim=1)
    return total_b, total_a


def once(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """The same, concatenated at once."""
    total_a = torch.cat([a * w for (_, a), w in zip(uploads, weights, strict=True)], dim=0)
    return torch.cat([b for b, _ in uploads], dim=1), total_a
