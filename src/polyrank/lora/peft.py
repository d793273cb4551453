"""A PEFT adapter folder is how an adapter goes out, and (lora/incoming.py) how one comes in."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save as to_bytes

from polyrank import files
from polyrank.errors import StorageError
from polyrank.lora.configured import CONFIG
from polyrank.lora.factor import Adapter, Factor, Factors
from polyrank.lora.incoming import FACTS, Incoming, read
from polyrank.lora.tensors import BASE_LAYER, PREFIX, WEIGHTS

# What transformers calls a classification head; PEFT keeps the first two whole by itself.
HEAD_MODULES = ("classifier", "score", "pre_classifier", "classification_head")
CARD = "README.md"


class Told(NamedTuple):
    """What a configuration says beside the factors.

    Args:
        base: the base model, by its hub name or path.
        task: PEFT's task_type.
        transposed: whether the adapted layers are Conv1D (fan_in_fan_out).
        modules: modules_to_save; by default those that the dense tensors are of.
        bias: which biases are among the dense tensors: none, all or lora_only.
    """

    base: str | None
    task: str | None = "SEQ_CLS"
    transposed: bool = False
    modules: tuple[str, ...] | None = None
    bias: str = "none"

    @classmethod
    def of(cls, one: Incoming) -> "Told":
        """What a folder says."""
        return cls(one.base, one.task, one.transposed, one.modules, one.bias)


def module_to_save(tensor: str) -> str:
    """The module that PEFT keeps whole for a tensor of this name: its head, else its parent."""
    parts = tensor.split(".")
    depth = next((i + 1 for i, part in enumerate(parts) if part in HEAD_MODULES), len(parts) - 1)
    return ".".join(parts[:depth])


def save(
    folder: Path,
    adapter: Adapter,
    base: str,
    fan_in_fan_out: bool = False,
    facts: Mapping[str, Any] | None = None,
    kind: str = "SEQ_CLS",
) -> None:
    """Write a folder that `PeftModel.from_pretrained(model, folder)` loads as the same function.

    The same adapter gives the same bytes, and the folder appears whole or not at all.

    Args:
        folder: where; replaced if it holds an adapter.
        adapter: factors, and as `dense` the whole head (also one that was not trained).
        base: what `base_model_name_or_path` shall say.
        fan_in_fan_out: whether the adapted layers are Conv1D.
        facts: where it comes from, to be written beside it, as JSON.
        kind: what PEFT calls the task: SEQ_CLS, CAUSAL_LM…

    Raises:
        StorageError: nothing to save, or `folder` holds something else.
    """
    written = contents(adapter, Told(base, kind, transposed=fan_in_fan_out))
    if folder.is_dir() and {p.name for p in folder.iterdir()} - {CONFIG, WEIGHTS, FACTS, CARD}:
        raise StorageError(f"{folder} holds other files than an adapter's; choose another folder")
    files.write_folder(folder, written if facts is None else {**written, FACTS: as_json(facts)})


def contents(adapter: Adapter, told: Told) -> dict[str, bytes]:
    """The files of an adapter folder.

    Layers may differ in rank. One scale is kept for all (that of the first layer; the others'
    ratio to it goes into B), as servers that ignore `alpha_pattern` need it; α/r gives it back
    to a double's last digit, and exactly where it was an α/r. Layers of rank 0 are left out.

    Args:
        adapter: factors in float32, and the tensors trained whole.
        told: what its configuration says beside them.

    Raises:
        StorageError: there is nothing to save.
    """
    factors = _one_scale({name: f for name, f in adapter.factors.items() if f.rank})
    tensors = {_key(name, factors): t for name, t in adapter.dense.items()}
    for name, factor in factors.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = factor.a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = factor.b
    tensors = {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}
    config = _config(factors, adapter.dense, told)
    return {CONFIG: as_json(config), WEIGHTS: to_bytes(tensors, {"format": "pt"})}


def load(folder: Path) -> Adapter:
    """The adapter in a PEFT folder (lora/incoming.py).

    Raises:
        StorageError: as for `read`.
    """
    return read(folder).adapter


def as_json(facts: Mapping[str, Any]) -> bytes:
    """A file of JSON, the same for the same facts."""
    return (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode()


def _key(tensor: str, factors: Factors) -> str:
    """PEFT's name for a tensor trained whole: an adapted layer's bias is in the layer it wraps."""
    layer, _, which = tensor.rpartition(".")
    return f"{PREFIX}{layer}{BASE_LAYER}.{which}" if layer in factors else f"{PREFIX}{tensor}"


def _one_scale(factors: Factors) -> dict[str, Factor]:
    if not factors:
        raise StorageError("the adapter is empty (rank 0 at every layer); there is nothing to save")
    scale = next(iter(factors.values())).scale
    return {
        name: f if f.scale == scale else Factor(f.a, f.b * (f.scale / scale), scale)
        for name, f in factors.items()
    }


def _config(factors: Factors, dense: Collection[str], told: Told) -> dict[str, Any]:
    ranks = {name: f.rank for name, f in factors.items()}
    rank, scale = max(ranks.values()), next(iter(factors.values())).scale
    # PEFT reads a pattern as a regular expression; ^ keeps it from matching a longer name's end.
    others = {f"^{name}": r for name, r in ranks.items() if r != rank}
    modules = {module_to_save(n) for n in dense} if told.modules is None else {*told.modules}
    return {
        "peft_type": "LORA", "task_type": told.task, "base_model_name_or_path": told.base,
        "inference_mode": True, "bias": told.bias, "fan_in_fan_out": told.transposed,
        "r": rank, "lora_alpha": _alpha(scale, rank),
        "rank_pattern": others,
        "alpha_pattern": {name: _alpha(scale, r) for name, r in others.items()},
        "target_modules": sorted(factors),
        "modules_to_save": sorted(modules) or None,
    }  # fmt: skip


def _alpha(scale: float, rank: int) -> float | int:
    alpha = scale * rank
    return int(alpha) if alpha.is_integer() else alpha
