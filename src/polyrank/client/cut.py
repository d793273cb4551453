"""A model in two parts: what is frozen and can be computed once, and the top that is trained."""

import copy
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from polyrank.client.model import Workbench
from polyrank.errors import RecipeError

Kind = Literal["block", "first-token"]


class Slot(nn.Module):
    """Returns what was put in, whatever it is called with; an attention returns a pair."""

    def __init__(self, pair: bool = False) -> None:
        super().__init__()
        self.pair, self.states = pair, torch.zeros(())

    def forward(self, *_: object, **__: object) -> Tensor | tuple[Tensor, None]:
        return (self.states, None) if self.pair else self.states


class Cut(NamedTuple):
    """Where a model is cut.

    Args:
        kind: "block" keeps the states of all tokens, "first-token" those of the first.
        below: the module of the whole model whose output is kept.
        top: the model without the way to that output; it shares all other modules.
        blocks: the blocks that are left in `top`, whole or in part.
        slot: the module that gives the kept output to `top`.
    """

    kind: Kind
    below: nn.Module
    top: Any
    blocks: nn.ModuleList
    slot: Slot


def cut(bench: Workbench, kind: Kind) -> Cut:
    """The model in two parts; the whole one stays as it is.

    Args:
        bench: the model, with its places for factors.
        kind: "block" cuts below the first block with an adapted module, "first-token" above the
            last block's attention.

    Raises:
        RecipeError: the model has no such place, or something below it is trained.
    """
    name, blocks = all_blocks(bench.net)
    if kind == "first-token":
        below, slot, upper = _at_first_token(blocks)
    else:
        below, slot, upper = _at_block(blocks, _first_adapted(name, len(blocks), bench.layers))
    kept = nn.ModuleList(upper)
    top = _swapped(bench.net, name.split("."), kept)
    _refuse_frozen(bench, kind, top)
    return Cut(kind, below, top, kept, slot)


def other(kind: Kind) -> str:
    """What to write in the recipe instead."""
    return "use block or off" if kind == "first-token" else "use off"


def all_blocks(net: Any) -> tuple[str, nn.ModuleList]:
    """The model's blocks, and the name of their list.

    Raises:
        RecipeError: there is no such list.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == net.config.num_hidden_layers:
            return name, module
    raise RecipeError("cache", f"found no list of blocks in {type(net).__name__}; use off")


def attention_end(block: nn.Module) -> str | None:
    """The child of a block whose output leaves the attention; None where that is not known.

    BERT's attention ends with the residual sum and its norm; DistilBERT's norm comes after it.
    """
    names = [name for name in ("sa_layer_norm", "attention") if hasattr(block, name)]
    return names[0] if hasattr(block, "attention") else None


def _first_adapted(blocks: str, count: int, layers: Collection[str]) -> int:
    """The number of the first block with an adapted module; `count` if all are above them."""
    inside = [n.removeprefix(f"{blocks}.") for n in layers if n.startswith(f"{blocks}.")]
    return min((int(n.partition(".")[0]) for n in inside), default=count)


def _at_block(blocks: nn.ModuleList, first: int) -> tuple[nn.Module, Slot, list[nn.Module]]:
    if first == 0:
        raise RecipeError("cache", "the first block is adapted, so no block is frozen; use off")
    slot = Slot()
    return blocks[first - 1], slot, [slot, *blocks[first:]]


def _at_first_token(blocks: nn.ModuleList) -> tuple[nn.Module, Slot, list[nn.Module]]:
    last = _copied(blocks[-1])
    name = attention_end(last)
    if name is None:
        raise RecipeError(
            "cache",
            f"first-token knows the blocks of BERT and DistilBERT, not {type(last).__name__}; "
            + other("first-token"),
        )
    slot = Slot(pair=name == "attention")
    last.attention = Slot(pair=True)
    setattr(last, name, slot)
    return blocks[-1].get_submodule(name), slot, [last]


def _refuse_frozen(bench: Workbench, kind: Kind, top: nn.Module) -> None:
    modules, parameters = set(map(id, top.modules())), set(map(id, top.parameters()))
    heads = bench.head if bench.train_head else ()
    frozen = [name for name, layer in bench.layers.items() if id(layer) not in modules]
    frozen += [name for name in heads if id(bench.net.get_parameter(name)) not in parameters]
    if frozen:
        raise RecipeError(
            "cache", f"{kind} would freeze {frozen[0]!r}, which is trained; {other(kind)}"
        )


def _copied(module: nn.Module) -> Any:
    """The module with a list of children of its own; children and parameters are shared."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _swapped(module: nn.Module, path: Sequence[str], new: nn.Module) -> Any:
    """A copy of the module in which `path` leads to another one."""
    twin, (name, *rest) = _copied(module), path
    setattr(twin, name, _swapped(module.get_submodule(name), rest, new) if rest else new)
    return twin
