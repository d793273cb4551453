"""What a node's client keeps, by the round after which it kept it.

A round may be asked for twice (the server went down, the answer was late): it then starts from the
state after the last round that counted, which the server names.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from polyrank import files
from polyrank.client.feedback import Owed
from polyrank.client.private import Private
from polyrank.engine import store
from polyrank.errors import StorageError

RUN = re.compile("[0-9a-f]{64}")  # what runs are named by
INDEX = "rounds.json"
_OWN = re.compile(r"rounds\.json|[0-9a-f]+\.safetensors|\..+-.+")  # the last: half-written


class Ledger(NamedTuple):
    """The states of one run's client, in a folder of theirs."""

    folder: Path

    def at(self, round: int) -> tuple[Private, Owed]:
        """What was kept after this round, and owed; nothing, where this client was not there."""
        private, owed = self._read().get(round, ("", ""))
        return self._get(private), self._get(owed)

    def add(self, round: int, since: int, private: Private, owed: Owed) -> None:
        """Keep the state after `round`, that of `since` from which it came, and those between.

        Raises:
            StorageError: the disk is full, or the folder cannot be written.
        """
        names = self._put(private), self._put(owed)
        index = {r: n for r, n in self._read().items() if since <= r < round}
        index[round] = names
        files.write(self._index, json.dumps(index).encode())
        store.keep_only(self.folder, {n for both in index.values() for n in both if n})

    @property
    def _index(self) -> Path:
        return self.folder / INDEX

    def _read(self) -> dict[int, tuple[str, str]]:
        if not self._index.exists():
            return {}
        try:
            return {int(r): (a, b) for r, (a, b) in json.loads(self._index.read_bytes()).items()}
        except (ValueError, TypeError, AttributeError):
            raise StorageError(f"{self._index} is damaged; delete it to start afresh") from None

    def _get(self, name: str) -> Private:
        return store.get(self.folder, name) if name else {}

    def _put(self, tensors: Private) -> str:
        return store.put(self.folder, tensors) if tensors else ""


def forget(runs: Path, keep: int) -> list[str]:
    """Remove what a client kept in all runs but the last ones; returns the names of those gone.

    Only folders named as runs are, that hold nothing but a ledger. A run that was forgotten and
    goes on after all finds nothing, as one that the client was not there for.

    Args:
        runs: the folder of all of them.
        keep: how many stay, those written to last.

    Raises:
        StorageError: one cannot be removed.
    """
    found = [Path(e) for e in os.scandir(runs) if _is_ledger(e)] if runs.exists() else []
    found.sort(key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
    try:
        for folder in found[keep:]:
            # Its index first: what is left of a folder when that is cut short must not be read.
            (folder / INDEX).unlink(missing_ok=True)
            shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"cannot remove {error.filename}: {error.strerror}") from None
    return [folder.name for folder in found[keep:]]


def _is_ledger(entry: os.DirEntry[str]) -> bool:
    named = RUN.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
    return bool(named) and all(map(_OWN.fullmatch, os.listdir(entry)))
