"""The base model that a client holds: load it, place factors in it, fold updates into it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from polyrank.client.classifying import Classifying
from polyrank.client.initial import Initial, adopt
from polyrank.client.objective import Objective
from polyrank.client.precision import narrow
from polyrank.client.pretrained import FULL
from polyrank.client.quantised import quantised
from polyrank.client.quick import quicken
from polyrank.client.writing import Writing, at_marks, chosen
from polyrank.data.batches import Batch, Tokens
from polyrank.errors import RankError, RecipeError, nearest
from polyrank.lora.factor import Factor
from polyrank.lora.head import HeadLayer
from polyrank.lora.head import attach as attach_head
from polyrank.lora.layer import LoraLayer, attach, transposed
from polyrank.lora.peft import HEAD_MODULES, module_to_save
from polyrank.lora.targets import check_rank, find
from polyrank.lora.update import Update, dense, joined
from polyrank.recipe.schema import Engine, Lora
from polyrank.recipe.tasks import Task

OBJECTIVES: Mapping[Task, Callable[[tuple[str, ...]], Objective]] = {
    "classification": Classifying,
    "causal-lm": Writing,
}
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


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
        objective: what it is trained for.
        notes: what was done where its files say nothing, as lines.
        absorbs: whether a fold goes into the weights. One in float32 does; weights below that would
            lose its small digits, and it stays beside them.
        pristine: pretrained weights of the modules that took up a fold.
        cached: by the id of its `Tokens`, what gives logits from kept activations.
        heads: the head's linear layers, by the name of the module, where every client on the bench
            can have its own.
        initial: the adapter that a run begins with, which `net` holds already.
        sparing: whether a language model's output layer is computed at marked tokens alone.
    """

    net: Any
    tokenizer: Any
    layers: dict[str, LoraLayer]
    head: tuple[str, ...]
    train_head: bool
    base: str
    objective: Objective
    notes: tuple[str, ...] = ()
    absorbs: bool = True
    pristine: dict[str, Tensor] = field(default_factory=dict)
    cached: dict[int, Callable[[Batch], Tensor]] = field(default_factory=dict)
    heads: dict[str, HeadLayer] = field(default_factory=dict)
    initial: Initial = field(default_factory=Initial)
    sparing: bool = False


def load(
    name: str, classes: Sequence[str], lora: Lora, seed: int, task: Task = "classification",
    engine: Engine = FULL,
) -> Workbench:  # fmt: skip
    """The model for these classes, frozen; its new head is drawn from the seed, in float32.

    Args:
        name: an embedded model, a folder, or a model on the Hugging Face hub.
        classes: class names, in the order of the logits.
        lora: which layers are adapted, and whether the head is trained.
        seed: the recipe's seed; the same seed gives the same head everywhere.
        task: what it is trained for.
        engine: what the base is kept in.

    Raises:
        RecipeError: the model cannot be loaded, a target names no layer of it, or the adapter to
            begin with does not fit.
        StorageError: the embedded model's file is not the one that was published.
    """
    objective = OBJECTIVES[task](tuple(classes))
    net, tokenizer, new, base, notes = objective.open(name, seed, engine)
    absorbs = engine.dtype == "float32" and not any(quantised(net))
    initial = adopt(net, lora.init_from, name, absorbs)
    net.requires_grad_(False)
    quicken(net)
    head = _head(net, new) if objective.headed else ()
    train_head = lora.train_head and objective.headed
    if train_head and not head:
        raise RecipeError(
            "lora.train_head",
            f"found no classification head in {name!r} (looked for {', '.join(HEAD_MODULES)}); "
            "set it to false to train the factors alone",
        )
    narrow(net, head, getattr(torch, engine.dtype))
    whole = {module_to_save(n) for n in head} if objective.headed else _output(net)
    layers = {n: attach(m, lora.dropout) for n, m in find(net, lora.targets, whole).items()}
    own = {n: net.get_submodule(n) for n in dict.fromkeys(n.rpartition(".")[0] for n in head)}
    heads = {n: attach_head(m) for n, m in own.items() if isinstance(m, nn.Linear)}
    bench = Workbench(
        net, tokenizer, layers, head, train_head, base, objective, notes, absorbs, heads=heads,
        initial=initial,
    )  # fmt: skip
    if not absorbs:
        for other in initial.adapter.factors.keys() - layers.keys():
            attach(net.get_submodule(other))
        fold(bench, {})
    return bench


def _head(net: Any, new: Collection[str]) -> tuple[str, ...]:
    """The names of the parameters of the classification head."""
    return tuple(n for n, _ in net.named_parameters() if n in new or _of_head(n))


def _output(net: Any) -> set[str]:
    """The name of the layer that gives a language model's logits."""
    output = net.get_output_embeddings()
    return {name for name, module in net.named_modules() if module is output}


def template(bench: Workbench, rank: int) -> dict[str, Factor]:
    """Zero factors of this rank for every adapted layer.

    Raises:
        RecipeError: the rank is above min(out, in) of a layer.
    """
    check_rank(shapes(bench), rank)
    return {name: zeros(shape, rank) for name, shape in shapes(bench).items()}


def fold(bench: Workbench, updates: Mapping[str, Update]) -> None:
    """W := W_pretrained + ΔW, bit for bit W_pretrained where no ΔW is given.

    Where the base does not absorb it, ΔW stays beside W as a frozen term, in the dtype that is
    computed in: y = W x + ΔW x.

    Args:
        updates: (out, in) by layer name; they replace what was folded before.

    Raises:
        RankError: a name or a shape that this model does not have.
    """
    check_shapes({n: u.shape for n, u in updates.items()}, shapes(bench))
    if bench.absorbs:
        _absorb(bench, updates)
        return
    begun, dtype = bench.initial.adapter.factors, next(bench.net.parameters()).dtype
    for name in bench.layers.keys() | begun.keys():
        update = updates.get(name)
        both = joined(update, begun[name]) if name in begun else update
        bench.net.get_submodule(name).lora.hold(both, dtype)


def _absorb(bench: Workbench, updates: Mapping[str, Update]) -> None:
    for name in updates.keys() | bench.pristine.keys():
        module = bench.net.get_submodule(name)
        if name not in updates:
            module.weight.data.copy_(bench.pristine.pop(name))
            continue
        if name not in bench.pristine:
            bench.pristine[name] = module.weight.detach().clone()
        delta = dense(updates[name])
        module.weight.data.copy_(bench.pristine[name] + (delta.T if transposed(module) else delta))


def logits(bench: Workbench, tokens: Tokens, batch: Batch) -> Float[Tensor, "predictions classes"]:
    """The model's predictions for a batch of `tokens`, from kept activations if there are any.

    A classifier has one for each row; a language model one for each marked token, row by row.
    """
    if id(tokens) in bench.cached:
        return bench.cached[id(tokens)](batch).float()
    if bench.sparing:
        return at_marks(bench.net, batch).float()
    out = bench.net(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    found: Tensor = out.logits if batch.counted is None else chosen(out.logits, batch)
    return found.float()


def tolerance(bench: Workbench) -> float:
    """How far two ways to the same logits may be apart, relative to the largest logit."""
    return TOLERANCE[next(bench.net.parameters()).dtype]


def longest_text(bench: Workbench) -> int | None:
    """Tokens of the longest text that the model has positions for; None if it has no limit."""
    positions = getattr(bench.net.config, "max_position_embeddings", None)
    # RoBERTa and its kin count positions from the padding token's id on.
    offset = 2 if "roberta" in bench.net.config.model_type else 0
    return positions - offset if isinstance(positions, int) and positions > 0 else None


def stored_transposed(bench: Workbench) -> bool:
    """Whether the adapted layers keep their weight as (in, out): PEFT's `fan_in_fan_out`."""
    modules = [bench.net.get_submodule(name) for name in bench.layers]
    return any(transposed(m) or getattr(m, "source_cls", None) is Conv1D for m in modules)


def shapes(bench: Workbench) -> dict[str, tuple[int, int]]:
    """(out, in) of every adapted layer."""
    return {name: layer.shape for name, layer in bench.layers.items()}


def zeros(shape: tuple[int, int], rank: int) -> Factor:
    """An empty factor."""
    return Factor(torch.zeros(rank, shape[1]), torch.zeros(shape[0], rank))


def check_shapes(given: Mapping[str, Sequence[int]], known: Mapping[str, Sequence[int]]) -> None:
    """Refuse tensors that a model does not have.

    Raises:
        RankError: naming the first one whose name or shape is not known.
    """
    for name, shape in given.items():
        if name not in known:
            raise RankError(f"the model does not train {name!r}; {nearest(name, known)}")
        if tuple(shape) != tuple(known[name]):
            raise RankError(f"{name!r} has shape {tuple(known[name])}, not {tuple(shape)}")


def _of_head(parameter: str) -> bool:
    return any(part in HEAD_MODULES for part in parameter.split("."))
