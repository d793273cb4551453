"""A state's tensors as a checkpoint gives them back: each in memory of its own, row by row.

What a matrix product rounds to depends on how its operands lie in memory, so that a run that is
resumed gives the same bits only if the one that is not lies there alike.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


def settled(value: Any) -> Any:
    """The same tree of dataclasses, mappings, tuples, tensors and numbers.

    settled(v) == v;  parts that lie so already are not copied.
    """
    if isinstance(value, Tensor):
        alone = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
        return value if alone else value.clone(memory_format=torch.contiguous_format)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: getattr(value, f.name) for f in fields(value)}
        new = {name: settled(part) for name, part in parts.items()}
        return replace(value, **new) if any(new[n] is not p for n, p in parts.items()) else value
    if isinstance(value, Mapping):
        held = {key: settled(part) for key, part in value.items()}
        return held if any(held[k] is not part for k, part in value.items()) else value
    if isinstance(value, tuple):
        each = tuple(settled(part) for part in value)
        return each if any(x is not y for x, y in zip(each, value, strict=True)) else value
    return value
