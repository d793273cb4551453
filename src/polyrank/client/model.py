"""The base model that a client holds: load it, place factors in it, fold updates into it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyrank.client.pretrained import open_model
from polyrank.data.batches import Batch, Tokens
from polyrank.errors import RankError, RecipeError, nearest
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.lora.layer import LoraLayer, attach, check_rank, find, transposed
from polyrank.lora.peft import HEAD_MODULES, module_to_save
from polyrank.messages import Sides
from polyrank.recipe.schema import Lora


@dataclass(slots=True)
class Workbench:
    """A base model with places for factors: the one object of the package that changes.

    Args:
        net: the model; frozen, but for the factors and the head.
        tokenizer: its tokenizer, with a padding token.
        layers: the LoRA layer of each adapted module, in model order.
        head: names of the parameters that are not pretrained (the classification head).
        train_head: whether the head is trained, and so travels as `dense`.
        base: the model's name on the hub, or its path.
        pristine: pretrained weights of the modules that hold a fold.
        cached: by the id of its `Tokens`, what gives logits from kept activations.
    """

    net: Any
    tokenizer: Any
    layers: dict[str, LoraLayer]
    head: tuple[str, ...]
    train_head: bool
    base: str
    pristine: dict[str, Tensor] = field(default_factory=dict)
    cached: dict[int, Callable[[Batch], Tensor]] = field(default_factory=dict)


def load(name: str, classes: Sequence[str], lora: Lora, seed: int) -> Workbench:
    """The model for these classes, frozen, in float32; its new head is drawn from the seed.

    Args:
        name: "minilm" (embedded), a folder, or a model on the Hugging Face hub.
        classes: class names, in the order of the logits.
        lora: which layers are adapted, and whether the head is trained.
        seed: the recipe's seed; the same seed gives the same head everywhere.

    Raises:
        RecipeError: the model cannot be loaded, or a target names no layer of it.
        StorageError: the embedded model's file is not the one that was published.
    """
    net, tokenizer, new, base = open_model(name, classes, seed)
    net.requires_grad_(False)
    head = tuple(n for n, _ in net.named_parameters() if n in new or _of_head(n))
    if lora.train_head and not head:
        raise RecipeError(
            "lora.train_head",
            f"found no classification head in {name!r} (looked for {', '.join(HEAD_MODULES)}); "
            "set it to false to train the factors alone",
        )
    modules = find(net, lora.targets, exclude={module_to_save(n) for n in head})
    layers = {n: attach(module, lora.dropout) for n, module in modules.items()}
    return Workbench(net, tokenizer, layers, head, lora.train_head, base)


def template(bench: Workbench, rank: int) -> dict[str, Factor]:
    """Zero factors of this rank for every adapted layer.

    Raises:
        RecipeError: the rank is above min(out, in) of a layer.
    """
    check_rank(_shapes(bench), rank)
    return {name: _zeros(shape, rank) for name, shape in _shapes(bench).items()}


def head(bench: Workbench) -> dict[str, Tensor]:
    """Copies of the head's tensors, trained or not: what an exported adapter must hold."""
    return {name: bench.net.get_parameter(name).detach().clone() for name in bench.head}


def dense(bench: Workbench) -> dict[str, Tensor]:
    """Copies of the tensors that are trained whole: the head's, or none."""
    return head(bench) if bench.train_head else {}


def place(
    bench: Workbench,
    factors: Factors,
    dense: Dense | None = None,
    scale: float | None = None,
    core: Dense | None = None,
) -> None:
    """Put factors in as trainable parameters, and copy dense tensors into the model.

    Args:
        factors: by layer name; a layer without one, or with rank 0, is left as pretrained.
        dense: by parameter name; one that is not given stays as it is.
        scale: the scale to train at (B is divided accordingly, ΔW stays); default: as it comes.
        core: by layer name, the square matrix between the sides, if any.

    Raises:
        RankError: a name or a shape that this model does not have.
    """
    dense, core = dense or {}, core or {}
    heads = {name: bench.net.get_parameter(name) for name in bench.head}
    _check({n: f.shape for n, f in factors.items()}, _shapes(bench))
    _check({n: t.shape for n, t in dense.items()}, {n: p.shape for n, p in heads.items()})
    for name, layer in bench.layers.items():
        layer.place(factors.get(name, _zeros(layer.shape, 0)), scale, core.get(name))
    for name, tensor in dense.items():
        heads[name].data.copy_(tensor)


def placed(bench: Workbench) -> dict[str, Factor]:
    """The factors that are placed, as the parameters themselves: gradients pass."""
    return {n: Factor(layer.a, layer.b, layer.scale) for n, layer in bench.layers.items()}


def take(bench: Workbench) -> tuple[dict[str, Factor], dict[str, Tensor]]:
    """Copies of the factors that are placed, and of the tensors that are trained whole."""
    return {n: layer.take() for n, layer in bench.layers.items() if len(layer.a)}, dense(bench)


def fold(bench: Workbench, deltas: Mapping[str, Tensor]) -> None:
    """W := W_pretrained + ΔW, bit for bit W_pretrained where no ΔW is given.

    Args:
        deltas: dense updates (out, in) by layer name; they replace what was folded before.

    Raises:
        RankError: a name or a shape that this model does not have.
    """
    _check({n: t.shape for n, t in deltas.items()}, _shapes(bench))
    for name in deltas.keys() | bench.pristine.keys():
        module = bench.net.get_submodule(name)
        if name not in deltas:
            module.weight.data.copy_(bench.pristine.pop(name))
            continue
        if name not in bench.pristine:
            bench.pristine[name] = module.weight.detach().clone()
        delta = deltas[name].T if transposed(module) else deltas[name]
        module.weight.data.copy_(bench.pristine[name] + delta)


def logits(bench: Workbench, tokens: Tokens, batch: Batch) -> Float[Tensor, "batch classes"]:
    """The classifier's output for a batch of `tokens`, from kept activations if there are any."""
    if id(tokens) in bench.cached:
        return bench.cached[id(tokens)](batch)
    found: Tensor = bench.net(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return found


def longest_text(bench: Workbench) -> int | None:
    """Tokens of the longest text that the model has positions for; None if it has no limit."""
    positions = getattr(bench.net.config, "max_position_embeddings", None)
    # RoBERTa and its kin count positions from the padding token's id on.
    offset = 2 if "roberta" in bench.net.config.model_type else 0
    return positions - offset if isinstance(positions, int) and positions > 0 else None


def stored_transposed(bench: Workbench) -> bool:
    """Whether the adapted layers keep their weight as (in, out): PEFT's `fan_in_fan_out`."""
    return any(transposed(bench.net.get_submodule(name)) for name in bench.layers)


def trainable(
    bench: Workbench, train: Sides = "ab"
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Let gradients reach what is trained: (factor parameters, dense parameters), in model order.

    Args:
        train: which factors; the others stay as they are placed.
    """
    factors = []
    for layer in bench.layers.values():
        layer.a.requires_grad_(train in ("ab", "a"))
        layer.b.requires_grad_(train in ("ab", "b"))
        parameters = (layer.a, layer.b, *([] if layer.core is None else [layer.core]))
        factors += [p for p in parameters if p.requires_grad and p.numel()]
    dense = [bench.net.get_parameter(name) for name in bench.head if bench.train_head]
    for parameter in dense:
        parameter.requires_grad_(True)
    return factors, dense


def _of_head(parameter: str) -> bool:
    return any(part in HEAD_MODULES for part in parameter.split("."))


def _shapes(bench: Workbench) -> dict[str, tuple[int, int]]:
    return {name: layer.shape for name, layer in bench.layers.items()}


def _zeros(shape: tuple[int, int], rank: int) -> Factor:
    return Factor(torch.zeros(rank, shape[1]), torch.zeros(shape[0], rank))


def _check(given: Mapping[str, Sequence[int]], known: Mapping[str, Sequence[int]]) -> None:
    for name, shape in given.items():
        if name not in known:
            raise RankError(f"the model does not train {name!r}; {nearest(name, known)}")
        if tuple(shape) != tuple(known[name]):
            raise RankError(f"{name!r} has shape {tuple(known[name])}, not {tuple(shape)}")
