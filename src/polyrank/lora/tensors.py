"""The tensors of an adapter folder: one safetensors file, or shards with an index."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from polyrank.errors import StorageError
from polyrank.lora.configured import CONFIG
from polyrank.seeds import fingerprint

WEIGHTS, INDEX, PICKLE = (
    "adapter_model.safetensors", "adapter_model.safetensors.index.json", "adapter_model.bin",
)  # fmt: skip
PREFIX = "base_model.model."
BASE_LAYER = ".base_layer"  # PEFT's name for an adapted layer's own parameters


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by the names that the base model gives their modules.

    Raises:
        StorageError: a file is missing, broken or a pickle, or a tensor is none of an adapter.
    """
    named: dict[str, Tensor] = {}
    for path in _files(folder):
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{path} cannot be read: {line(error)}") from error
        for key, tensor in found.items():
            if not key.startswith(PREFIX):
                raise StorageError(f"{path}: tensor {key!r} does not begin with {PREFIX!r}")
            if not tensor.is_floating_point() or not tensor.isfinite().all():
                raise StorageError(f"{path}: tensor {key!r} has values that are no finite numbers")
            if name := _plain_name(key.removeprefix(PREFIX)):
                named[name] = tensor
    return named


def digest(folder: Path) -> str:
    """SHA-256 over a folder's configuration and tensors.

    Raises:
        StorageError: a file is missing.
    """
    files = [folder / CONFIG, *_files(folder)]
    try:
        return fingerprint(b"".join(fingerprint(p.read_bytes()).encode() for p in files))
    except OSError as error:
        raise StorageError(f"{folder} cannot be read: {line(error)}") from error


def line(error: Exception) -> str:
    """The first line of what went wrong."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _plain_name(key: str) -> str | None:
    """The base model's name for a tensor; None for PEFT's copies of what it holds elsewhere."""
    # With bias "all", a module kept whole is saved three times: as itself, and its bias under
    # the two names that it has inside PEFT's wrapper.
    if ".original_module." in key or ".modules_to_save." in key:
        return None
    return key.replace(f"{BASE_LAYER}.", ".")


def _files(folder: Path) -> list[Path]:
    """The one file of tensors, or its shards."""
    index = folder / INDEX
    if (folder / WEIGHTS).exists() or not index.exists():
        if (folder / PICKLE).exists() and not (folder / WEIGHTS).exists():
            raise StorageError(
                f"{folder / PICKLE} is a pickle, which can run code and is never opened; if you "
                "trust it, load it with PEFT and save_pretrained writes safetensors"
            )
        return [folder / WEIGHTS]
    try:
        shards = {str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{index} cannot be read: {line(error)}") from error
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise StorageError(f"{index} names {name!r}, which is no safetensors file beside it")
    return [folder / name for name in sorted(shards)]
