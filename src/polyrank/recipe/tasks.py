"""What a model is trained for: the defaults that a task changes, and the keys that are its own."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from polyrank.recipe.values import conflict

Task = Literal["classification", "causal-lm"]
# Only where the recipe says nothing: a section that is given keeps what it says.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "causal-lm": {
        "model": "docstrings-llama",
        "data": {"max_length": 256},
        "lora": {"targets": ("all-linear",)},
        "evaluation": {"batch": 16},
    },
}
# Keys of one task alone: another that sets them has mistaken them for its own.
OWN: Mapping[str, tuple[str, ...]] = {
    "classification": ("data.text", "data.label", "cache"),
    "causal-lm": (
        "data.format", "data.fields", "data.template", "data.category", "data.loss",
        "generation.metrics",
    ),
}  # fmt: skip


def filled(values: Any) -> Any:
    """A recipe's values with the task's own defaults where it says nothing."""
    task = values.get("task") if isinstance(values, Mapping) else None
    found = dict(values) if isinstance(values, Mapping) else values
    for key, default in (DEFAULTS.get(task, {}) if isinstance(task, str) else {}).items():
        given = found.get(key)
        if key not in found:
            found[key] = default
        elif isinstance(given, Mapping) and isinstance(default, Mapping):
            found[key] = {**default, **given}
        elif isinstance(given, str) and key == "data":
            found[key] = {**default, "name": given}
    return found


def strays(recipe: Any) -> PydanticCustomError | None:
    """The first key that is set and belongs to another task, as a mistake; None without any."""
    for task, keys in OWN.items():
        for key in keys if task != recipe.task else ():
            part, name = recipe, key
            if "." in key:
                section, name = key.split(".")
                part = getattr(recipe, section)
            value = getattr(part, name)
            if value != type(part).model_fields[name].get_default(call_default_factory=True):
                return conflict(key, f"{value!r} needs task: {task}")
    if recipe.task == "classification" and (recipe.evaluation.target or 0) >= 1:
        target = recipe.evaluation.target
        return conflict("evaluation.target", f"{target:g} must be above 0 and below 1")
    return None
