"""All clients in this process, one after another, over one base model.

Messages become bytes and are read back, so that traffic is measured and not computed.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyrank.client.fit import Share, Task, fit, receive
from polyrank.client.model import Workbench
from polyrank.client.private import Private
from polyrank.engine import store
from polyrank.errors import MessageError
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.schema import Recipe
from polyrank.server.loop import Reply
from polyrank.wire.pack import pack, size, unpack_download, unpack_upload


@dataclass(slots=True)
class Simulator:
    """The clients of a simulated federation.

    Args:
        bench: the base model that they share.
        shares: by client, its own examples.
        recipe: what they do.
        folder: where they keep private state; None keeps it in memory.
        private: by client, the name of its private state in the folder.
        memory: by client, its private state where there is no folder.
        probe: measures the model on the bench, just trained by this client in this round, where
            that is wanted; else None.
    """

    bench: Workbench
    shares: Mapping[str, Share]
    recipe: Recipe
    folder: Path | None
    private: dict[str, str] = field(default_factory=dict)
    memory: dict[str, Private] = field(default_factory=dict)
    probe: Callable[[int, Client], float | None] = lambda round, client: None

    def exchange(self, round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        """Train every client on what it is sent; a client that fails says why."""
        for client, download in sent:
            begun = time.monotonic()
            data = pack(download)
            down = size(download, data)
            try:
                private, upload = self._fit(round, client, unpack_download(data))
            except (MessageError, RuntimeError) as error:  # torch's own, such as no memory left
                reason = str(error).partition("\n")[0]
                yield Reply(client, None, reason, down=down, seconds=time.monotonic() - begun)
                continue
            self._keep(client, private)
            packed = pack(upload)
            arrived, up = unpack_upload(packed), size(upload, packed)
            seconds = time.monotonic() - begun
            yield Reply(client, arrived, None, up, down, seconds, self.probe(round, client))

    def hold(self, client: Client, download: Download) -> None:
        """Put the model that this client holds after a download on the bench."""
        receive(self.bench, self.recipe.lora, client, download, self._private(client))

    def _fit(self, round: int, client: Client, download: Download) -> tuple[Private, Upload]:
        recipe = self.recipe
        task = Task(recipe.lora, recipe.local, round, recipe.rounds, recipe.seed)
        message = (download, self._private(client))
        return fit(self.bench, self.shares[client.id], task, client, message)

    def _private(self, client: Client) -> Private:
        if self.folder is None:
            return self.memory.get(client.id, {})
        name = self.private.get(client.id)
        return store.get(self.folder, name) if name else {}

    def _keep(self, client: Client, private: Private) -> None:
        if self.folder is None:
            self.memory[client.id] = private
        elif private:
            self.private[client.id] = store.put(self.folder, private)
        else:
            self.private.pop(client.id, None)
