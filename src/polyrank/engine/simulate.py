"""All clients in this process, one after another, over one base model.

Messages become bytes and are read back, so that traffic is measured and not computed.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from polyrank.client.fit import Base, Task, fit, receive
from polyrank.client.model import Workbench
from polyrank.data.batches import Tokens
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
        tokens: everybody's examples.
        parts: by client, the indices of its own.
        recipe: what they do.
        folder: where they keep private state.
        private: by client, the name of its private state in the folder.
    """

    bench: Workbench
    tokens: Tokens
    parts: Mapping[str, Sequence[int]]
    recipe: Recipe
    folder: Path
    private: dict[str, str] = field(default_factory=dict)

    def exchange(self, round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        """Train every client on what it is sent; a client that fails says why."""
        for client, download in sent:
            begun = time.monotonic()
            data = pack(download)
            down = size(download, data)
            base = self._base(client, download)
            try:
                base, upload = self._fit(round, client, unpack_download(data), base)
            except (MessageError, RuntimeError) as error:  # torch's own, such as no memory left
                reason = str(error).partition("\n")[0]
                yield Reply(client, None, reason, down=down, seconds=time.monotonic() - begun)
                continue
            self._keep(client, base)
            packed = pack(upload)
            arrived, up = unpack_upload(packed), size(upload, packed)
            yield Reply(client, arrived, None, up, down, time.monotonic() - begun)

    def hold(self, client: Client, download: Download) -> None:
        """Put the model that this client holds after a download on the bench."""
        receive(self.bench, self.recipe.lora, client, download, self._base(client, download))

    def _fit(
        self, round: int, client: Client, download: Download, base: Base
    ) -> tuple[Base, Upload]:
        recipe = self.recipe
        task = Task(recipe.lora, recipe.local, round, recipe.rounds, recipe.seed)
        data = (self.tokens, self.parts[client.id])
        return fit(self.bench, data, task, client, (download, base))

    def _base(self, client: Client, download: Download) -> Base:
        name = self.private.get(client.id)
        return store.get(self.folder, name) if name and download.since else {}

    def _keep(self, client: Client, base: Mapping[str, Tensor]) -> None:
        if base:
            self.private[client.id] = store.put(self.folder, base)
        else:
            self.private.pop(client.id, None)
