"""LoRA on one module, as PEFT computes it: W x + s · B A dropout(x) (Hu et al., arXiv 2106.09685).

A forward hook adds the update, so that every module of the base model keeps its name and type.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from polyrank.errors import RecipeError, nearest
from polyrank.lora.factor import Factor


class LoraLayer(nn.Module):
    """The trainable factors of one module; of rank 0, and without effect, until some are placed.

    With a core C between the sides it computes s · B C A x.

    Args:
        shape: (out, in) of the module.
        dropout: probability of dropping an input of `a` in training.
    """

    def __init__(self, shape: tuple[int, int], dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout, self.scale = shape, dropout, 1.0
        self.a = nn.Parameter(torch.zeros(0, shape[1]))  # [rank, in]
        self.b = nn.Parameter(torch.zeros(shape[0], 0))  # [out, rank]
        self.core: nn.Parameter | None = None  # [rank, rank]

    def place(self, factor: Factor, scale: float | None = None, core: Tensor | None = None) -> None:
        """Replace the parameters: (s', B·s/s', A) for a given scale s', so that ΔW stays."""
        self.core = None if core is None else nn.Parameter(core.detach().to(self.a, copy=True))
        self.scale = factor.scale if scale is None else scale
        self.a = nn.Parameter(factor.a.detach().to(self.a, copy=True))
        self.b = nn.Parameter(factor.b.detach().to(self.b) * (factor.scale / self.scale))

    def take(self) -> Factor:
        """A detached copy of what is placed."""
        return Factor(self.a.detach().clone(), self.b.detach().clone(), self.scale)

    def forward(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        x = functional.dropout(x.to(self.a.dtype), self.dropout, self.training)
        inner = functional.linear(x, self.a)
        if self.core is not None:
            inner = functional.linear(inner, self.core)
        return functional.linear(inner, self.b) * self.scale


def attach(module: nn.Module, dropout: float = 0.0) -> LoraLayer:
    """Add a LoRA layer to a Linear or Conv1D, as its child `lora`."""
    module.lora = LoraLayer(shape(module), dropout)
    module.register_forward_hook(_add)
    return module.lora


def _add(module: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    # A module-level function with the layer as a child: copies and moves of the model stay whole.
    return (out + module.lora(args[0])).to(out.dtype) if len(module.lora.a) else out


def transposed(module: nn.Module) -> bool:
    """Whether the weight is stored as (in, out): Conv1D does so, Linear does not."""
    return isinstance(module, Conv1D)


def shape(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a Linear or Conv1D."""
    first, second = module.get_parameter("weight").shape
    return (second, first) if transposed(module) else (first, second)


def find(
    model: nn.Module, targets: Sequence[str], exclude: Collection[str] = ()
) -> dict[str, nn.Module]:
    """The modules to adapt, in model order; a target is a name or the end of one (PEFT's rule).

    Args:
        model: the base model.
        targets: names such as "query" or "attention.output.dense".
        exclude: names of the head's modules, which are never adapted.

    Raises:
        RecipeError: a target names no layer that can be adapted.
    """
    named = {name: module for name, module in model.named_modules() if name}
    free = {
        name: module for name, module in named.items()
        if _adaptable(module) and not _inside(name, exclude)
    }  # fmt: skip
    for target in targets:
        if not any(_matches(name, [target]) for name in free):
            raise RecipeError("lora.targets", _no_layer(target, named, exclude, _endings(free)))
    return {name: module for name, module in free.items() if _matches(name, targets)}


def check_rank(shapes: Mapping[str, tuple[int, int]], rank: int) -> None:
    """Refuse a rank above min(out, in) of any adapted layer.

    Args:
        shapes: (out, in) by layer name.
        rank: the largest rank that any client asks for.

    Raises:
        RecipeError: naming the rank, the smallest layer and the largest rank that works.
    """
    name = min(shapes, key=lambda name: min(shapes[name]))
    if rank > min(shapes[name]):
        raise RecipeError(
            "lora.ranks",
            f"rank {rank} is too large for layer {name!r} of shape {shapes[name]}; "
            f"the largest rank that works is {min(shapes[name])}",
        )


def _adaptable(module: nn.Module) -> bool:
    # MultiheadAttention reads the weight of its output projection and never calls the module.
    skipped = isinstance(module, NonDynamicallyQuantizableLinear)
    return isinstance(module, (nn.Linear, Conv1D)) and not skipped


def _matches(name: str, targets: Iterable[str]) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _inside(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _no_layer(
    target: str, named: Mapping[str, nn.Module], exclude: Collection[str], endings: Sequence[str]
) -> str:
    valid = f"valid: {', '.join(endings)}"
    hits = [name for name in named if _matches(name, [target])]
    if any(_inside(name, exclude) for name in hits):
        return f"{target!r} is the classification head, which is never adapted; {valid}"
    if hits:
        kind = type(named[hits[0]]).__name__
        return f"{target!r} is of type {kind}, but LoRA adapts Linear and Conv1D layers; {valid}"
    hint = nearest(target, endings)
    return (
        f"no layer is called {target!r}; {hint if hint.startswith('valid') else f'{hint} {valid}'}"
    )


def _endings(names: Iterable[str]) -> list[str]:
    """The shortest names that tell kinds of layers apart: query, attention.output.dense…"""
    kinds = list(dict.fromkeys(re.sub(r"^.*\.\d+\.", "", name) for name in names))
    return list(dict.fromkeys(_shortest(kind, kinds) for kind in kinds))


def _shortest(kind: str, kinds: Sequence[str]) -> str:
    parts = kind.split(".")
    ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
    return next((end for end in ends if sum(_matches(k, [end]) for k in kinds) == 1), kind)
