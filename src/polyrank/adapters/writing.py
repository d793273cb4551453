"""The folder that a result goes to: an adapter or a model, its card, and what it was made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyrank import files
from polyrank.errors import StorageError
from polyrank.lora.factor import Adapter
from polyrank.lora.incoming import FACTS, facts
from polyrank.lora.peft import CARD, Told, as_json, contents
from polyrank.version import __version__


def claim(out: Path, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Make sure that a result may be written to `out`: only what we wrote is replaced.

    Args:
        out: the folder.
        overwrite: whether an earlier result there may go.
        inputs: folders that it is made of.

    Raises:
        StorageError: something is there and must not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise StorageError(f"--out {out} is a file; name a folder")
    if out.resolve() in {path.resolve() for path in inputs}:
        raise StorageError(f"--out {out} is one of those that it is made of; name another folder")
    if not overwrite:
        raise StorageError(f"--out {out} is not empty; --overwrite replaces an earlier result")
    ours = {FACTS, *facts(out).get("files", ())}
    others = sorted(p.name for p in out.iterdir() if p.name not in ours)
    if others:
        raise StorageError(
            f"--out {out} holds {others[0]}, which polyrank did not write; name another folder"
        )


def write_adapter(
    out: Path, adapter: Adapter, told: Told, made: Mapping[str, Any], card: bytes
) -> None:
    """Write an adapter folder that PEFT loads, with its card.

    Args:
        out: where; claimed.
        adapter: in float32.
        told: what its configuration says.
        made: where it comes from, as JSON.
        card: README.md.

    Raises:
        StorageError: it cannot be written.
    """
    parts = {**contents(adapter, told), CARD: card}
    files.write_folder(out, {**parts, FACTS: provenance(made, parts)})


def provenance(made: Mapping[str, Any], names: Sequence[str] | Mapping[str, Any]) -> bytes:
    """The file that says where a result comes from, and which files are ours to replace."""
    return as_json({"polyrank": __version__, **made, "files": sorted(names)})
