"""What a download may ask of a client's training beside the loss: a pull, a cut, a choice.

proximal   + μ/2 · ‖θ − θ_start‖²                              (FedProx, arXiv 1812.06127)
tail       + λ · Σ_layers ‖B[:, k:]‖·‖A[k:]‖,  k = max(1, ⌊γr⌋)      (HetLoRA, arXiv 2401.06432)
choice     the slots with the largest ‖∇B_j‖·‖A_j‖ (or ‖B_j‖·‖∇A_j‖)  (LoRA-A², arXiv 2410.22815)
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from polyrank.lora.algebra import truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Prune


def proximal(parameters: Iterable[Tensor], starts: Iterable[Tensor], mu: float) -> Tensor:
    """μ/2 · Σ ‖θ − θ_start‖², a scalar."""
    apart = [(p - s).square().sum() for p, s in zip(parameters, starts, strict=True)]
    return mu / 2 * torch.stack(apart).sum()


def leading(rank: int, prune: Prune) -> int:
    """k: the slots that a cut leaves, at least one."""
    return max(1, int(prune.keep * rank))


def tail(factors: Iterable[Factor], prune: Prune) -> Tensor:
    """Σ_layers s·‖B[:, k:]‖·‖A[k:]‖, a scalar; 0 at rank one, which has no tail."""
    parts = []
    for f in factors:
        k = leading(f.rank, prune)
        if k < f.rank:
            # the square root of 0 has no gradient, and a fresh B is 0
            b, a = (t.square().sum().clamp_min(1e-24).sqrt() for t in (f.b[:, k:], f.a[k:]))
            parts.append(f.scale * a * b)
    return torch.stack(parts).sum() if parts else torch.zeros(())


def pruned(start: Factors, end: Factors, prune: Prune) -> dict[str, Factor]:
    """The trained factors, cut to k slots at every layer if the tail shrank in training."""
    if not tail(end.values(), prune) < tail(start.values(), prune):
        return dict(end)
    return {name: truncate(f, leading(f.rank, prune)) for name, f in end.items()}


def chosen(
    factors: Factors, gradients: Mapping[str, Factor], count: int
) -> dict[str, tuple[int, ...]]:
    """The `count` slots over all layers that the client's data pulls at most, by layer.

    Args:
        factors: all slots that the client was sent.
        gradients: of the loss, in the place of A and B; zeros where a side is not trained.
        count: how many slots over all layers.

    Returns:
        Ascending slots of every layer; a layer may have none.
    """
    pulls = [
        (float(pull), name, slot)
        for name, f in factors.items()
        for slot, pull in enumerate(_pulls(f, gradients[name]))
    ]
    best = sorted(pulls, key=lambda x: -x[0])[:count]  # stable: ties go to the leading slots
    return {n: tuple(sorted(slot for _, m, slot in best if m == n)) for n in factors}


def _pulls(f: Factor, gradient: Factor) -> Sequence[Tensor]:
    by_b = f.a.norm(dim=1) * gradient.b.norm(dim=0)
    by_a = f.b.norm(dim=0) * gradient.a.norm(dim=1)
    return list(by_a + by_b)
