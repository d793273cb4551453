"""What a node's client keeps, by the round after which it kept it.

A round may be asked for twice (the server went down, the answer was late): it then starts from the
state after the last round that counted, which the server names.
"""

import json
from pathlib import Path
from typing import NamedTuple

from polyrank import files
from polyrank.client.feedback import Owed
from polyrank.client.private import Private
from polyrank.engine import store
from polyrank.errors import StorageError


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
        return self.folder / "rounds.json"

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
