"""Which modules of a model are adapted."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from polyrank.errors import RecipeError, nearest

ALL = "all-linear"  # every layer that can be adapted, as PEFT calls them


def find(
    model: nn.Module, targets: Sequence[str], exclude: Collection[str] = ()
) -> dict[str, nn.Module]:
    """The modules to adapt, in model order; a target is a name or the end of one (PEFT's rule).

    Args:
        model: the base model.
        targets: names such as "query" or "attention.output.dense", or "all-linear".
        exclude: names of the head's modules, or of a language model's output; never adapted.

    Raises:
        RecipeError: a target names no layer that can be adapted.
    """
    named = {name: module for name, module in model.named_modules() if name}
    free = {
        name: module for name, module in named.items()
        if adaptable(module) and not _inside(name, exclude)
    }  # fmt: skip
    for target in targets:
        if target != ALL and not any(_matches(name, [target]) for name in free):
            raise RecipeError("lora.targets", _no_layer(target, named, exclude, _endings(free)))
    return {name: m for name, m in free.items() if ALL in targets or _matches(name, targets)}


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


def adaptable(module: nn.Module) -> bool:
    """Whether a module is of a kind that factors can be beside."""
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
        return f"{target!r} is the model's head, which is never adapted; {valid}"
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
