"""Peers, each written out as plainly as its own code does it.

Aggregation: aggregate(uploads, weights, rank) -> (B, A), with uploads [(B_i, A_i)] in float32,
B_i (out, r_i), A_i (r_i, in), and weights that sum to one. Training: start(args) -> Job.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

Upload = tuple[Tensor, Tensor]  # B (out, rank), A (rank, in)
Aggregate = Callable[[Sequence[Upload], Sequence[float], int], Upload]
