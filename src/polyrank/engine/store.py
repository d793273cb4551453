"""Private client state on disk, stored once however many clients share it.

What a client keeps between rounds (the folds in its base) is named by its content, so that
clients in the same state cost one file, and an older state stays until nothing refers to it.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from polyrank import files
from polyrank.errors import MessageError, StorageError
from polyrank.seeds import fingerprint
from polyrank.wire.pack import load_exactly, save_exactly


def put(folder: Path, tensors: Mapping[str, Tensor]) -> str:
    """Keep the tensors; returns their name. Nothing is written that is there already.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    data = save_exactly(tensors, {})
    name = fingerprint(data)
    if not _path(folder, name).exists():
        files.write(_path(folder, name), data)
    return name


def get(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors kept under `name`.

    Raises:
        StorageError: they are gone or damaged.
    """
    path = _path(folder, name)
    try:
        data = path.read_bytes()
        if fingerprint(data) != name:
            raise StorageError(f"{path} is damaged: its content does not match its name")
        return load_exactly(data)[0]
    except (FileNotFoundError, MessageError) as error:
        raise StorageError(f"private client state {path} cannot be read: {error}") from None


def keep_only(folder: Path, names: Collection[str]) -> None:
    """Delete every state that nothing refers to any more."""
    kept = {_path(folder, name).name for name in names}
    for path in os.scandir(folder) if folder.exists() else ():
        if path.name.endswith(".safetensors") and path.name not in kept:
            os.unlink(path)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"
