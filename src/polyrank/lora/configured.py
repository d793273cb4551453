"""adapter_config.json: which of its keys are honoured, which change nothing, which are refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrank.errors import StorageError, nearest

CONFIG = "adapter_config.json"
# Keys that are honoured, with their types; and what PEFT takes where a key is missing.
_HONOURED: dict[str, Any] = {
    "r": int, "lora_alpha": (int, float), "rank_pattern": dict, "alpha_pattern": dict,
    "use_rslora": bool, "target_modules": (list, str), "modules_to_save": (list, type(None)),
    "bias": str, "fan_in_fan_out": bool, "base_model_name_or_path": (str, type(None)),
    "task_type": (str, type(None)),
}  # fmt: skip
_DEFAULTS: dict[str, Any] = {
    "peft_type": None, "r": 8, "lora_alpha": 8, "rank_pattern": {}, "alpha_pattern": {},
    "use_rslora": False, "target_modules": [], "modules_to_save": None, "bias": "none",
    "fan_in_fan_out": False, "base_model_name_or_path": None, "task_type": None,
    "init_lora_weights": True,
}  # fmt: skip
# Keys that leave the function as it is, whatever they say.
_HARMLESS = {
    "peft_type", "peft_version", "revision", "auto_mapping", "inference_mode", "lora_dropout",
    "exclude_modules", "layers_to_transform", "layers_pattern", "eva_config", "loftq_config",
    "corda_config", "lora_ga_config", "megatron_core", "qalora_group_size", "runtime_config",
}  # fmt: skip
_PLAIN = "only plain LoRA can be read"
# Keys that make an adapter more than factors where they say anything, and why that is too much.
_MORE = {
    "use_dora": "DoRA scales every row of W0 + s·BA to a norm of its own, so that its update is "
    "no product of factors and depends on W0; merge it into its base with PEFT's merge_and_unload",
    "lora_bias": "B has a bias, so that its update is more than a product of factors",
    "trainable_token_indices": "single rows of the embedding are trained beside the factors",
    "target_parameters": "it adapts parameters that are no layers of their own",
    "layer_replication": "it adapts copies of layers that the base does not have",
    "alora_invocation_tokens": "it acts only after certain tokens",
    **dict.fromkeys(
        ("megatron_config", "use_qalora", "use_bdlora", "arrow_config", "kasa_config",
         "monteclora_config", "velora_config", "ensure_weight_tying"), _PLAIN,
    ),
}  # fmt: skip
_INITIAL = (True, False, "gaussian", "orthogonal", "eva")
_OTHER_BASE = (
    "it was trained on a base that it changed at its start; save it with PEFT's "
    "path_initial_model_for_weight_conversion, which makes plain LoRA of it"
)


def configured(path: Path) -> dict[str, Any]:
    """The configuration with every key that is honoured.

    Raises:
        StorageError: it is missing, broken, or says more than plain LoRA.
    """
    try:
        config = _DEFAULTS | json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError(
            f"{path} cannot be read: there is no such file; a PEFT adapter is a folder with "
            f"{CONFIG} and adapter_model.safetensors"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    if config["peft_type"] != "LORA":
        raise StorageError(f"{path} does not describe a LoRA adapter (peft_type LORA)")
    for key, value in config.items():
        if problem := _problem(key, value):
            raise StorageError(f"{path}: {problem}")
    return config


def _problem(key: str, value: Any) -> str | None:
    if key not in {*_HONOURED, *_HARMLESS, *_MORE, "init_lora_weights"}:
        known = {*_HONOURED, *_HARMLESS, *_MORE}
        return f"unknown key {key!r}; {nearest(key, known)}" if value else None
    if key in _MORE:
        return f"{key} is {value!r}; {_MORE[key]}" if value else None
    if key == "init_lora_weights":
        return None if value in _INITIAL else f"{key} is {value!r}; {_OTHER_BASE}"
    return None if _plain(key, value) else f"{key} is {value!r}; {_PLAIN}"


def _plain(key: str, value: object) -> bool:
    if key in _HARMLESS:
        return True
    if key.endswith("_pattern") and isinstance(value, Mapping):
        return all(isinstance(number, (int, float)) and number > 0 for number in value.values())
    if key == "bias":
        return value in ("none", "all", "lora_only")
    return isinstance(value, _HONOURED[key])
