"""All clients in this process, some at a time, over one base model.

Messages become bytes and are read back, so that traffic is measured and not computed.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from polyrank.client.fit import fit, receive
from polyrank.client.job import Job, Share, Task, job, together
from polyrank.client.model import Workbench
from polyrank.client.placing import seat
from polyrank.client.private import Private
from polyrank.engine import store
from polyrank.errors import MessageError
from polyrank.messages import Client, Download
from polyrank.recipe.schema import Recipe
from polyrank.server.loop import Reply
from polyrank.wire.pack import Size, pack, size, unpack_download, unpack_upload


@dataclass(slots=True)
class Simulator:
    """The clients of a simulated federation.

    Args:
        bench: the base model that they share.
        shares: by client, its own examples.
        recipe: what they do.
        folder: where they keep private state; None keeps it in memory.
        group: at most how many of them train at once.
        private: by client, the name of its private state in the folder.
        memory: by client, its private state where there is no folder.
        probe: measures the model on the bench, just trained by this client in this round, where
            that is wanted; else None.
    """

    bench: Workbench
    shares: Mapping[str, Share]
    recipe: Recipe
    folder: Path | None
    group: int = 1
    private: dict[str, str] = field(default_factory=dict)
    memory: dict[str, Private] = field(default_factory=dict)
    probe: Callable[[int, Client], float | None] = lambda round, client: None

    def exchange(self, round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        """Train every client on what it is sent; a client that fails says why."""
        waiting = iter(sent)
        while some := list(islice(waiting, self.group)):
            yield from self._some(round, some)

    def hold(self, client: Client, download: Download) -> None:
        """Put the model that this client holds after a download on the bench."""
        receive(self.bench, self.recipe.lora, self._job(client, download))

    def _some(self, round: int, sent: Sequence[tuple[Client, Download]]) -> list[Reply]:
        """The replies of some clients, in their order."""
        replies, jobs, down = dict[str, Reply](), list[Job](), dict[str, Size]()
        for client, download in sent:
            data = pack(download)
            down[client.id] = size(download, data)
            try:
                jobs.append(self._job(client, unpack_download(data)))
            except MessageError as error:
                replies[client.id] = Reply(client, None, str(error), down=down[client.id])
        for places in together(jobs):
            for reply in self._trained(round, [jobs[i] for i in places]):
                replies[reply.client.id] = reply._replace(down=down[reply.client.id])
        return [replies[client.id] for client, _ in sent]

    def _trained(
        self, round: int, jobs: Sequence[Job], alone: str | None = None
    ) -> Iterator[Reply]:
        """Clients that train at once; where that fails, one after another, and told why."""
        recipe, begun = self.recipe, time.monotonic()
        task = Task(recipe.lora, recipe.local, round, recipe.rounds, recipe.seed)
        try:
            found = fit(self.bench, task, jobs)
        except (MessageError, RuntimeError) as error:  # torch's own, such as no memory left
            reason = str(error).partition("\n")[0]
            if len(jobs) > 1:
                for one in jobs:
                    yield from self._trained(round, [one], reason)
                return
            seconds = time.monotonic() - begun
            yield Reply(jobs[0].client, None, reason, seconds=seconds, alone=alone)
            return
        seconds = (time.monotonic() - begun) / len(jobs)
        for place, (one, (private, upload)) in enumerate(zip(jobs, found, strict=True)):
            self._keep(one.client, private)
            packed = pack(upload)
            arrived, up = unpack_upload(packed), size(upload, packed)
            seat(self.bench, [place])
            before = self.probe(round, one.client)
            yield Reply(one.client, arrived, None, up, seconds=seconds, alone=alone, before=before)

    def _job(self, client: Client, download: Download) -> Job:
        return job(self.shares[client.id], client, download, self._private(client))

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
