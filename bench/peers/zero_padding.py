"""Zero padding: A and B are padded to the largest rank and averaged, each by itself.

As `FedAvg(..., zero_padding=True)` in fed_utils/model_aggregation.py of FLoRA's code
(https://github.com/ATP-1010/FederatedLLM), the baseline of Cho et al., EMNLP 2024.
"""

from collections.abc import Sequence

from torch.nn import ZeroPad2d

from bench.peers import Upload


def aggregate(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """B = Σ w_i pad(B_i), A = Σ w_i pad(A_i)."""
    total_b = total_a = None
    for (b, a), weight in zip(uploads, weights, strict=True):
        missing = rank - len(a)
        b = ZeroPad2d(padding=(0, missing, 0, 0))(b) * weight
        a = ZeroPad2d(padding=(0, 0, 0, missing))(a) * weight
        total_b = b if total_b is None else total_b + b
        total_a = a if total_a is None else total_a + a
    assert total_b is not None
    assert total_a is not None
    return total_b, total_a
