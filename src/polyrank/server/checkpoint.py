"""The server's state on disk: one safetensors file per run, bit for bit, written in one step.

A state is a tree of frozen dataclasses, mappings, tuples, tensors and numbers. Its numbers and
its shape go into JSON, its tensors beside it, and it is read back by the types of its fields:
nothing in the file names code to run.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from polyrank import files
from polyrank.errors import MessageError, StorageError
from polyrank.server.loop import Federation
from polyrank.wire.pack import load_exactly, save_exactly

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The federation after a round, and what else a run needs to go on from there.

    Args:
        federation: the server's state.
        recipe: fingerprint of the recipe that made it.
        private: by client, the name of its private state in the engine's store.
        owed: by client, the name of what its uploads have left out, there too.
        group: at most how many clients train at once, which rounding depends on.
    """

    federation: Federation
    recipe: str
    private: Mapping[str, str]
    owed: Mapping[str, str] = field(default_factory=dict)
    group: int | None = None


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint; a crash leaves the one before it.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    facts = {"format": FORMAT, "checkpoint": _flatten(checkpoint, "", tensors)}
    files.write(path, save_exactly(tensors, facts))


def load(path: Path, state_type: type) -> Checkpoint:
    """The checkpoint at `path`, whose algorithm keeps a state of `state_type`.

    Raises:
        StorageError: there is none, or the file is damaged or of another algorithm.
    """
    try:
        tensors, facts = load_exactly(path.read_bytes())
        if facts["format"] != FORMAT:
            raise StorageError(f"{path} has checkpoint format {facts['format']}, not {FORMAT}")
        loaded: Checkpoint = _rebuild(Checkpoint, facts["checkpoint"], tensors, state_type)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot read {path}: {(error.strerror or '').lower()}") from None
    except (MessageError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{path} is damaged or of another algorithm: {error!r}") from None
    return loaded


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value
        return None
    if is_dataclass(value):
        return {
            f.name: _flatten(getattr(value, f.name), f"{path}/{f.name}", tensors)
            for f in fields(value)
        }
    if isinstance(value, Mapping):
        return {key: _flatten(v, f"{path}/{key}", tensors) for key, v in value.items()}
    if isinstance(value, tuple):
        return [_flatten(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a state cannot hold {type(value).__name__} ({path})")


def _rebuild(
    kind: Any, tree: Any, tensors: Mapping[str, Tensor], state: type, path: str = ""
) -> Any:
    if kind is Any:  # Federation.state: the one place where the type depends on the algorithm
        kind = state
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        kind = next(k for k in arguments if k is not type(None))
        return None if tree is None else _rebuild(kind, tree, tensors, state, path)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(
            **{n: _rebuild(hints[n], t, tensors, state, f"{path}/{n}") for n, t in tree.items()}
        )
    if origin is tuple:
        return tuple(
            _rebuild(arguments[0], t, tensors, state, f"{path}/{i}") for i, t in enumerate(tree)
        )
    if origin is not None and issubclass(origin, Mapping):
        return {
            k: _rebuild(arguments[1], t, tensors, state, f"{path}/{k}") for k, t in tree.items()
        }
    return tensors[path] if path in tensors else kind(tree)
