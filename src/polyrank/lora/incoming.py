"""An adapter folder as PEFT writes it, read from JSON and safetensors alone; nothing is unpickled.

base_model.model.<layer>.lora_A.weight  (r, in)        scale = lora_alpha / r
base_model.model.<layer>.lora_B.weight  (out, r)       (/ √r with use_rslora)

`rank_pattern` and `alpha_pattern` say r and lora_alpha of single layers.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from polyrank.errors import StorageError
from polyrank.lora.configured import CONFIG, configured
from polyrank.lora.factor import Adapter, Factor
from polyrank.lora.tensors import PREFIX, WEIGHTS, line
from polyrank.lora.tensors import tensors as load

FACTS = "polyrank.json"  # what we write beside an adapter: where it comes from
_BY_ITSELF = ("classifier", "score")  # modules that PEFT keeps whole without being asked


@dataclass(frozen=True, slots=True)
class Incoming:
    """An adapter folder.

    Args:
        path: where it lies.
        adapter: factors, and as `dense` the modules kept whole and the biases, by the names that
            the base model gives them.
        base: what it says it adapts, if it does.
        task: PEFT's task_type, if any.
        modules: its modules_to_save.
        transposed: whether it says that its layers are Conv1D (fan_in_fan_out).
        bias: which biases are trained: none, all or lora_only.
        facts: what we wrote beside it, if we did.
    """

    path: Path
    adapter: Adapter
    base: str | None
    task: str | None
    modules: tuple[str, ...]
    transposed: bool
    bias: str
    facts: Mapping[str, Any]


def read(folder: Path) -> Incoming:
    """Read a PEFT LoRA folder, refusing all that PEFT would silently ignore.

    Args:
        folder: holds adapter_config.json and adapter_model.safetensors, whole or in shards.

    Raises:
        StorageError: a missing or broken file, a key that is unknown, misspelt or without its
            partner, or a kind of adapter that is more than factors (DoRA…).
    """
    config = configured(folder / CONFIG)
    tensors = load(folder)
    found = {key: re.fullmatch(r"(.+)\.lora_[AB]\.weight", key) for key in tensors}
    dense = {key: tensors[key] for key, match in found.items() if not match}
    for key in dense:
        _check_dense(folder, key, config)
    names = sorted({match[1] for match in found.values() if match})
    factors = {name: _factor(folder / WEIGHTS, name, tensors, config) for name in names}
    if not factors:
        raise StorageError(f"{folder / WEIGHTS} has no lora_A and lora_B: it adapts no layer")
    return Incoming(
        folder, Adapter(factors, dense), config["base_model_name_or_path"] or None,
        config["task_type"], tuple(config["modules_to_save"] or ()), config["fan_in_fan_out"],
        config["bias"], facts(folder),
    )  # fmt: skip


def facts(folder: Path) -> dict[str, Any]:
    """What we wrote beside an adapter; nothing where we did not.

    Raises:
        StorageError: the file is there and cannot be read.
    """
    path = folder / FACTS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {line(error)}") from error
    if not isinstance(found, dict):
        raise StorageError(f"{path} holds no mapping; delete it, or restore it")
    return found


def _check_dense(folder: Path, key: str, config: Mapping[str, Any]) -> None:
    if config["bias"] != "none" and key.endswith(".bias"):
        return
    heads = {*(config["modules_to_save"] or ()), *_BY_ITSELF}
    parents = [key[: dot.start()] for dot in re.finditer(r"\.", key)]
    if not any(_ends(parent, heads) for parent in parents):
        raise StorageError(
            f"{folder / WEIGHTS}: tensor {PREFIX + key!r} is neither lora_A, lora_B nor of a "
            f"module that modules_to_save names ({', '.join(sorted(heads))})"
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
        problem = f"is not one of target_modules in {CONFIG}, so PEFT would ignore it"
    elif len(a) != rank or not rank:
        problem = f"has rank {len(a)}, but {CONFIG} says {rank}"
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
