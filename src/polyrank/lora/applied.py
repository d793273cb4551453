"""A sum of updates by its products: Δx = Σ s B (A x) and Δᵀy = Σ s Aᵀ(Bᵀ y), or densely."""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from polyrank.lora import products
from polyrank.lora.algebra import total
from polyrank.lora.factor import Factor
from polyrank.lora.krylov import Operator
from polyrank.lora.products import linear


class _Kept(threading.local):
    memory = torch.empty(0)


_kept = _Kept()


def operator(parts: Sequence[Factor], dense: bool) -> Operator:
    """Δ by its products.

    Args:
        parts: terms of the sum. The operator is good until this thread's next one.
        dense: by the dense update; else through the factors, stacked where that pays.
    """
    like, (out, width) = parts[0].a, parts[0].shape
    if dense:
        delta = total(parts).delta
        return Operator(lambda x: delta @ x, lambda y: delta.mT @ y, like, (out, width))
    # Quick products want wide factors; their copy shall be no larger than two dense updates.
    if products.suits(like) and sum(f.rank for f in parts) * (out + width) <= 2 * out * width:
        f = _stacked(parts) if len(parts) > 1 else parts[0]
        return Operator(
            lambda x: f.scale * linear(f.b, linear(f.a, x.mT).mT),
            lambda y: f.scale * linear(linear(y.mT, f.b.mT), f.a.mT).mT,
            like, (out, width),
        )  # fmt: skip

    def across(x: Tensor) -> Tensor:
        y = x.new_zeros(out, x.shape[1])
        for f in parts:
            y.addmm_(f.b, f.a @ x, alpha=f.scale)
        return y

    def back(y: Tensor) -> Tensor:
        x = y.new_zeros(width, y.shape[1])
        for f in parts:
            x.addmm_(f.a.mT, f.b.mT @ y, alpha=f.scale)
        return x

    return Operator(across, back, like, (out, width))


def _stacked(parts: Sequence[Factor]) -> Factor:
    """`stack`, good until this thread's next: to fresh memory a copy takes four times as long."""
    ranks, (out, width) = [f.rank for f in parts], parts[0].shape
    rows = sum(ranks) * width
    if _kept.memory.numel() < rows + sum(ranks) * out:
        _kept.memory = torch.empty(rows + sum(ranks) * out)
    a = torch.cat([f.a for f in parts], out=_kept.memory[:rows].view(-1, width))
    b = _kept.memory[rows : rows + sum(ranks) * out].view(out, -1)
    for f, column in zip(parts, torch.split(b, ranks, dim=1), strict=True):
        torch.mul(f.b, f.scale, out=column)
    return Factor(a, b)
