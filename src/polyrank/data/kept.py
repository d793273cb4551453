"""Tensors that took seconds to compute, kept on disk and mapped, not read, into memory.

Processes that map one file share its pages. A file appears whole or not at all, and one that is
not what was written (cut short, a bit flipped) counts as none.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from polyrank import files


def save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors (of 4 or 8 bytes an element) in one step.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    sums = {name: _sum(t) for name, t in tensors.items()}
    files.write(path, to_bytes(dict(tensors), sums))


def load(path: Path) -> dict[str, Tensor] | None:
    """What `save` wrote; None where there is nothing, or something else."""
    try:
        with safe_open(path, "pt") as file:
            sums = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sums}
    except (OSError, SafetensorError):
        return None
    whole = all(t.element_size() in (4, 8) and _sum(t) == sums[n] for n, t in tensors.items())
    return tensors if whole else None


def _sum(tensor: Tensor) -> str:
    """Of all bits: one that flips on the disk shows."""
    return str(int(tensor.view(torch.int32).sum()))
