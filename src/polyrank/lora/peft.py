"""A PEFT adapter folder is how an adapter goes out, and how one comes in.

base_model.model.<layer>.lora_A.weight  (r, in)        scale = lora_alpha / r
base_model.model.<layer>.lora_B.weight  (out, r)       (/ √r with use_rslora)
"""

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from polyrank import files
from polyrank.errors import StorageError, nearest
from polyrank.lora.factor import Adapter, Factor, Factors

# What transformers calls a classification head; PEFT keeps the first two whole by itself.
HEAD_MODULES = ("classifier", "score", "pre_classifier", "classification_head")
_CONFIG, _WEIGHTS, _PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
# The configuration's keys that are honoured, and those that leave the function as it is.
_HONOURED: dict[str, Any] = {
    "r": int, "lora_alpha": (int, float), "rank_pattern": dict, "alpha_pattern": dict,
    "use_rslora": bool, "target_modules": (list, str), "modules_to_save": (list, type(None)),
}  # fmt: skip
_HARMLESS = {
    "peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision",
    "auto_mapping", "inference_mode", "lora_dropout", "fan_in_fan_out", "exclude_modules",
    "layers_to_transform", "layers_pattern", "eva_config",
}  # fmt: skip
_INITIAL = (True, False, "gaussian", "orthogonal", "eva")  # the other ways change the base


def module_to_save(tensor: str) -> str:
    """The module that PEFT keeps whole for a tensor of this name: its head, else its parent."""
    parts = tensor.split(".")
    depth = next((i + 1 for i, part in enumerate(parts) if part in HEAD_MODULES), len(parts) - 1)
    return ".".join(parts[:depth])


def save(
    folder: Path, adapter: Adapter, base: str, fan_in_fan_out: bool = False, kind: str = "SEQ_CLS"
) -> None:
    """Write a folder that `PeftModel.from_pretrained(model, folder)` loads as the same function.

    Layers may differ in rank. One scale is kept for all (that of the first layer; the others'
    ratio to it goes into B), as servers that ignore `alpha_pattern` need it; α/r gives it back
    to a double's last digit, and exactly where it was an α/r. Layers of rank 0 are left out.
    The same adapter gives the same bytes, and the folder appears whole or not at all.

    Args:
        folder: where; replaced if it holds an adapter.
        adapter: factors, and as `dense` the whole head (also one that was not trained).
        base: what `base_model_name_or_path` shall say.
        fan_in_fan_out: whether the adapted layers are Conv1D.
        kind: what PEFT calls the task: SEQ_CLS, CAUSAL_LM…

    Raises:
        StorageError: nothing to save, or `folder` holds something else.
    """
    factors = _one_scale({name: f for name, f in adapter.factors.items() if f.rank})
    config = _config(factors, adapter.dense, base)
    config |= {"fan_in_fan_out": fan_in_fan_out, "task_type": kind}
    tensors = {f"{_PREFIX}{name}": tensor for name, tensor in adapter.dense.items()}
    for name, factor in factors.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = factor.a
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = factor.b
    tensors = {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    contents = {_CONFIG: text.encode(), _WEIGHTS: to_bytes(tensors, {"format": "pt"})}
    if folder.is_dir() and {p.name for p in folder.iterdir()} - {_CONFIG, _WEIGHTS}:
        raise StorageError(f"{folder} holds other files than an adapter's; choose another folder")
    files.write_folder(folder, contents)


def load(folder: Path) -> Adapter:
    """Read a PEFT LoRA folder (safetensors only), refusing all that PEFT would silently ignore.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors.

    Raises:
        StorageError: a missing or broken file, a key that is unknown, misspelt or without its
            partner, or a kind of adapter that is more than factors (DoRA, biases…).
    """
    config = _read_config(folder / _CONFIG)
    tensors = _read_tensors(folder / _WEIGHTS)
    found = {key: re.fullmatch(r"(.+)\.lora_[AB]\.weight", key) for key in tensors}
    dense = {key: tensors[key] for key, match in found.items() if not match}
    for key in dense:
        _check_dense(folder / _WEIGHTS, key, config)
    names = sorted({match[1] for match in found.values() if match})
    factors = {name: _factor(folder / _WEIGHTS, name, tensors, config) for name in names}
    return Adapter(factors, dense)


def _one_scale(factors: Factors) -> dict[str, Factor]:
    if not factors:
        raise StorageError("the adapter is empty (rank 0 at every layer); there is nothing to save")
    scale = next(iter(factors.values())).scale
    return {
        name: f if f.scale == scale else Factor(f.a, f.b * (f.scale / scale), scale)
        for name, f in factors.items()
    }


def _config(factors: Factors, dense: Collection[str], base: str) -> dict[str, Any]:
    ranks = {name: f.rank for name, f in factors.items()}
    rank, scale = max(ranks.values()), next(iter(factors.values())).scale
    # PEFT reads a pattern as a regular expression; ^ keeps it from matching a longer name's end.
    others = {f"^{name}": r for name, r in ranks.items() if r != rank}
    return {
        "peft_type": "LORA", "base_model_name_or_path": base,
        "inference_mode": True, "bias": "none",
        "r": rank, "lora_alpha": _alpha(scale, rank),
        "rank_pattern": others,
        "alpha_pattern": {name: _alpha(scale, r) for name, r in others.items()},
        "target_modules": sorted(factors),
        "modules_to_save": sorted({module_to_save(name) for name in dense}) or None,
    }  # fmt: skip


def _alpha(scale: float, rank: int) -> float | int:
    alpha = scale * rank
    return int(alpha) if alpha.is_integer() else alpha


def _read_config(path: Path) -> dict[str, Any]:
    from peft import LoraConfig  # takes seconds to import, and only reading needs it

    defaults = LoraConfig().to_dict() | {"peft_type": None, "target_modules": []}
    try:
        config = defaults | json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    if config["peft_type"] != "LORA":
        raise StorageError(f"{path} does not describe a LoRA adapter (peft_type LORA)")
    for key, value in config.items():
        if key not in defaults and value:
            raise StorageError(f"{path}: unknown key {key!r}; {nearest(key, defaults)}")
        if not _plain(key, value, defaults):
            raise StorageError(f"{path}: {key} is {value!r}; only plain LoRA can be read")
    return config


def _plain(key: str, value: object, defaults: Mapping[str, object]) -> bool:
    if key.endswith("_pattern") and isinstance(value, dict):
        return all(isinstance(number, (int, float)) and number > 0 for number in value.values())
    if key in _HONOURED:
        return isinstance(value, _HONOURED[key])
    if key == "init_lora_weights":
        return value in _INITIAL
    return key in _HARMLESS or not value or value == defaults[key]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = from_bytes(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    for key in tensors:
        if not key.startswith(_PREFIX):
            raise StorageError(f"{path}: tensor {key!r} does not begin with {_PREFIX!r}")
    return {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items()}


def _check_dense(path: Path, key: str, config: Mapping[str, Any]) -> None:
    heads = {*(config["modules_to_save"] or ()), *HEAD_MODULES[:2]}
    parents = [key[: dot.start()] for dot in re.finditer(r"\.", key)]
    if not any(_ends(parent, heads) for parent in parents):
        raise StorageError(
            f"{path}: tensor {_PREFIX + key!r} is neither lora_A, lora_B nor of a module that "
            f"modules_to_save names ({', '.join(sorted(heads))})"
        )


def _factor(path: Path, name: str, tensors: Mapping[str, Tensor], config: Any) -> Factor:
    """One layer's factor, if its two tensors agree with each other and the configuration."""
    a, b = (tensors.get(f"{name}.lora_{which}.weight") for which in "AB")
    rank = _setting(config["rank_pattern"], name, config["r"])
    alpha = _setting(config["alpha_pattern"], name, config["lora_alpha"])
    if a is None or b is None:
        problem = f"has no lora_{'A' if a is None else 'B'} tensor"
    elif a.ndim != 2 or b.ndim != 2 or b.shape[1] != len(a):
        problem = f"has a lora_A of shape {tuple(a.shape)} and a lora_B of {tuple(b.shape)}"
    elif not _targeted(name, config["target_modules"]):
        problem = f"is not one of target_modules in {_CONFIG}, so PEFT would ignore it"
    elif len(a) != rank or not rank:
        problem = f"has rank {len(a)}, but {_CONFIG} says {rank}"
    else:
        return Factor(a, b, alpha / (math.sqrt(rank) if config["use_rslora"] else rank))
    raise StorageError(f"{path}: layer {name!r} {problem}")


def _targeted(name: str, targets: Sequence[str] | str) -> bool:
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return _ends(name, targets)


def _setting(pattern: Mapping[str, Any], name: str, default: Any) -> Any:
    """PEFT's rule: the first regular expression that matches the end of the layer's name."""
    hits = (v for key, v in pattern.items() if re.match(rf"(.*\.)?({key})$", name))
    return next(hits, default)


def _ends(name: str, ends: Iterable[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)
