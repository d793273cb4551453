"""Replication: the slots that a client lacks are filled with those of the clients that have them.

Written out from Byun & Lee, NAACL 2025 (https://arxiv.org/abs/2406.17477), whose paper has two
rank levels: every slot is first averaged over its holders, each client is padded with these
means, and the padded factors are averaged.
"""

from collections.abc import Sequence

import torch

from bench.peers import Upload


def aggregate(uploads: Sequence[Upload], weights: Sequence[float], rank: int) -> Upload:
    """B = Σ w_i fill(B_i), A = Σ w_i fill(A_i)."""
    first_b, first_a = uploads[0]
    mean_b, mean_a = first_b.new_zeros(len(first_b), rank), first_a.new_zeros(rank, len(first_a.T))
    held = first_a.new_zeros(rank)
    for (b, a), weight in zip(uploads, weights, strict=True):
        mean_b[:, : len(a)] += weight * b
        mean_a[: len(a)] += weight * a
        held[: len(a)] += weight
    mean_b, mean_a = mean_b / held.clamp_min(1e-12), mean_a / held.clamp_min(1e-12)[:, None]
    total_b, total_a = torch.zeros_like(mean_b), torch.zeros_like(mean_a)
    for (b, a), weight in zip(uploads, weights, strict=True):
        total_b += weight * torch.cat([b, mean_b[:, len(a) :]], dim=1)
        total_a += weight * torch.cat([a, mean_a[len(a) :]], dim=0)
    return total_b, total_a
