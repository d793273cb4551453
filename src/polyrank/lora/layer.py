"""LoRA on one module: W x + ΔW x + s · B A dropout(x) (Hu et al., arXiv 2106.09685).

ΔW is a fold that the weight cannot take up, frozen beside it.

A forward hook adds the update, so that every module of the base model keeps its name and type.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from polyrank.lora.dropout import dropped
from polyrank.lora.factor import Factor
from polyrank.lora.products import linear
from polyrank.lora.update import Update


class Pair(nn.Module):
    """One client's trainable factors of one module: s · B A x, or s · B C A x with a core C.

    Args:
        factor: what they start from, as copies.
        scale: s' to train at; B is multiplied by s/s', so that ΔW stays.
        core: C, if any.
    """

    def __init__(
        self, factor: Factor, scale: float | None = None, core: Tensor | None = None
    ) -> None:
        super().__init__()
        self.scale = factor.scale if scale is None else scale
        self.a = nn.Parameter(_copied(factor.a))  # [rank, in]
        self.b = nn.Parameter(_copied(factor.b) * (factor.scale / self.scale))  # [out, rank]
        self.core = None if core is None else nn.Parameter(_copied(core))  # [rank, rank]

    @property
    def rank(self) -> int:
        return len(self.a)

    def take(self) -> Factor:
        """A detached copy of what is placed."""
        return Factor(self.a.detach().clone(), self.b.detach().clone(), self.scale)

    def forward(
        self, x: Float[Tensor, "rows in"], out: Float[Tensor, "rows out"]
    ) -> Float[Tensor, "rows out"]:
        inner = linear(x, self.a.to(x.dtype))
        if self.core is not None:
            inner = linear(inner, self.core.to(x.dtype))
        return torch.addmm(out, inner, self.b.to(x.dtype).mT, alpha=self.scale)


class LoraLayer(nn.Module):
    """The factors of one module, of every client on the bench; without effect until some are there.

    Args:
        shape: (out, in) of the module.
        dropout: probability of dropping an input of A in training.
    """

    def __init__(self, shape: tuple[int, int], dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        nothing = Factor(torch.zeros(0, shape[1]), torch.zeros(shape[0], 0))
        self.pairs: Any = nn.ModuleList([Pair(nothing)])  # one per client on the bench
        self.active: tuple[int, ...] = (0,)  # of which clients, one after another, a batch has rows
        self.beside: tuple[Tensor, ...] = ()  # ΔW, or B and A: what comes last multiplies first

    def place(self, pairs: Iterable[Pair]) -> None:
        """Replace what was there."""
        self.pairs = nn.ModuleList(pairs)

    def hold(self, update: Update | None, dtype: torch.dtype) -> None:
        """Keep a fold beside the weight, in the place of the one before; None is none.

        Args:
            update: ΔW (out, in), or its factors.
            dtype: what it is computed in.
        """
        sides: tuple[Tensor, ...] = ()
        if isinstance(update, Tensor):
            sides = (update,)
        elif update is not None:
            sides = (update.scale * update.b, update.a)
        self.beside = tuple(t.detach().to(dtype) for t in sides)

    def held(
        self, x: Float[Tensor, "rows *places in"], out: Float[Tensor, "rows *places out"]
    ) -> Float[Tensor, "rows *places out"]:
        """The module's output with the fold that is beside its weight."""
        inner = x.to(out.dtype).flatten(0, -2)
        for side in reversed(self.beside[1:]):
            inner = linear(inner, side)
        return torch.addmm(out.flatten(0, -2), inner, self.beside[0].mT).view(out.shape)

    @property
    def empty(self) -> bool:
        return not any(pair.rank for pair in self.pairs)

    def forward(
        self, x: Float[Tensor, "rows *places in"], out: Float[Tensor, "rows *places out"]
    ) -> Float[Tensor, "rows *places out"]:
        """The module's output with the clients' updates: computed in its dtype."""
        active: list[Any] = [self.pairs[i] for i in self.active]
        x = dropped(x.to(out.dtype), self.dropout, self.training)
        if len(active) == 1:
            alone: Tensor = active[0](x.flatten(0, -2), out.flatten(0, -2))
            return alone.view(out.shape)
        runs = list(_runs(active))
        sizes = [len(run) for run in runs]
        each = (torch.split(t.reshape(len(active), -1, t.shape[-1]), sizes) for t in (x, out))
        parts = [_together(*run) for run in zip(runs, *each, strict=True)]
        return torch.cat(parts).view(out.shape)


def _runs(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Neighbours of one rank: what can be multiplied at once without a slot of padding."""
    for _, some in groupby(pairs, key=lambda pair: (pair.rank, pair.scale, pair.core is None)):
        yield list(some)


def _together(
    pairs: Sequence[Pair],
    x: Float[Tensor, "clients rows in"],
    out: Float[Tensor, "clients rows out"],
) -> Float[Tensor, "clients rows out"]:
    inner = x @ _stacked([pair.a for pair in pairs], x)
    if pairs[0].core is not None:
        inner = inner @ _stacked([pair.core for pair in pairs if pair.core is not None], x)
    return torch.baddbmm(out, inner, _stacked([pair.b for pair in pairs], x), alpha=pairs[0].scale)


def _stacked(factors: Sequence[Tensor], like: Tensor) -> Tensor:
    """One transposed matrix per client; gradients come back in the factors' own dtype."""
    return torch.stack(list(factors)).to(like.dtype).mT


def attach(module: nn.Module, dropout: float = 0.0) -> LoraLayer:
    """Add a LoRA layer to a Linear or Conv1D, as its child `lora`."""
    module.lora = LoraLayer(shape(module), dropout)
    module.register_forward_hook(_add)
    return module.lora


def _add(module: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    # A module-level function with the layer as a child: copies and moves of the model stay whole.
    if module.lora.beside:
        out = module.lora.held(args[0], out)
    return out if module.lora.empty else module.lora(args[0], out)


def _copied(t: Tensor) -> Tensor:
    return t.detach().to(torch.get_default_dtype(), copy=True)


def transposed(module: nn.Module) -> bool:
    """Whether the weight is stored as (in, out): Conv1D does so, Linear does not."""
    return isinstance(module, Conv1D)


def shape(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a Linear, quantised or not, or a Conv1D."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    inner, out = module.get_parameter("weight").shape
    return out, inner
