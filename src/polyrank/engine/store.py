"""Private client state on disk, stored once however many clients share it.

What a client keeps between rounds (the folds in its base) is named by its content, so that
clients in the same state cost one file, and an older state stays until nothing refers to it.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from polyrank import files
from polyrank.errors import MessageError, StorageError
from polyrank.seeds import fingerprint
from polyrank.wire.pack import load_exactly, save_exactly


@dataclass(slots=True)
class Shelf:
    """What clients keep, each its own: in a folder, or in memory where there is none.

    Args:
        folder: where the tensors lie.
        names: by client, the name of its tensors in the folder.
        memory: by client, its tensors where there is no folder.
    """

    folder: Path | None
    names: dict[str, str] = field(default_factory=dict)
    memory: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def get(self, client: str) -> Mapping[str, Tensor]:
        """What the client kept.

        Raises:
            StorageError: it is gone or damaged.
        """
        if self.folder is None:
            return self.memory.get(client, {})
        name = self.names.get(client)
        return get(self.folder, name) if name else {}

    def put(self, client: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep these in the place of what the client kept.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        if self.folder is None:
            self.memory[client] = tensors
        elif tensors:
            self.names[client] = put(self.folder, tensors)
        else:
            self.names.pop(client, None)

    def told(self, client: str) -> str:
        """What tells a client's tensors from others: equal ones in a folder are told alike."""
        return self.names.get(client, client if self.memory.get(client) else "")


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
