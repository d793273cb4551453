"""All clients in this process, some at a time, over one base model.

Messages become bytes and are read back, so that traffic is measured and not computed.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from polyrank.client.fit import fit, receive
from polyrank.client.job import Job, Share, Task, job, together
from polyrank.client.model import Workbench, template
from polyrank.client.placing import seat
from polyrank.client.sending import Asked, send
from polyrank.client.sending import receive as received
from polyrank.engine.store import Shelf
from polyrank.errors import MessageError
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.codecs import codec
from polyrank.recipe.schema import Recipe
from polyrank.seeds import derive
from polyrank.server.loop import Reply
from polyrank.wire.coded import decode_download, encode
from polyrank.wire.pack import Size


@dataclass(slots=True)
class Simulator:
    """The clients of a simulated federation.

    Args:
        bench: the base model that they share.
        share: a client's own examples, by its id.
        recipe: what they do.
        private: what they keep of their models.
        owed: what their uploads have left out so far.
        group: at most how many of them train at once.
        probe: measures the model on the bench, just trained by this client in this round, where
            that is wanted; else None.
    """

    bench: Workbench
    share: Callable[[str], Share]
    recipe: Recipe
    private: Shelf
    owed: Shelf
    group: int = 1
    probe: Callable[[int, Client], float | None] = lambda round, client: None

    def exchange(self, round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        """Train every client on what it is sent; a client that fails says why."""
        waiting = iter(sent)
        while some := list(islice(waiting, self.group)):
            yield from self._some(round, some)

    def hold(self, round: int, sent: Sequence[tuple[Client, Download]]) -> Iterator[list[int]]:
        """The models that clients hold after a download of this round, as many on the bench at
        once as can be.

        Yields which of them those on the bench are, until all have been there.
        """
        jobs = [self._job(c, self._delivered(round, c, download)[0]) for c, download in sent]
        for places in together(jobs):
            receive(self.bench, self.recipe.lora, [jobs[i] for i in places])
            yield places

    def _some(self, round: int, sent: Sequence[tuple[Client, Download]]) -> list[Reply]:
        """The replies of some clients, in their order."""
        replies, jobs, down = dict[str, Reply](), list[Job](), dict[str, Size]()
        for client, download in sent:
            arrived, down[client.id] = self._delivered(round, client, download)
            try:
                jobs.append(self._job(client, arrived))
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
            try:
                arrived, up = self._sent(round, one, upload)
            except MessageError as error:
                yield Reply(one.client, None, str(error), seconds=seconds)
                continue
            self.private.put(one.client.id, private)
            seat(self.bench, [place])
            before = self.probe(round, one.client)
            yield Reply(one.client, arrived, None, up, seconds=seconds, alone=alone, before=before)

    def _delivered(self, round: int, client: Client, download: Download) -> tuple[Download, Size]:
        """The download as it arrives, and what it weighs."""
        how, seed = codec(self.recipe.wire.down), self.recipe.seed
        own = derive(seed, "codec", round, client.id, "down")
        data, size = encode(download, how, own, derive(seed, "codec", round, "down"))
        return decode_download(data, how), size

    def _sent(self, round: int, one: Job, upload: Upload) -> tuple[Upload, Size]:
        """The upload as it arrives, and what it weighs; what the client owes now is kept."""
        id, how = one.client.id, codec(self.recipe.wire.up)
        asked = Asked(one.download, one.client, template(self.bench, 1), how)
        draw = derive(self.recipe.seed, "codec", round, id, "up")
        data, size, owed = send(upload, asked, one.before, self.owed.get(id), draw)
        self.owed.put(id, owed)
        return received(data, asked), size

    def _job(self, client: Client, download: Download) -> Job:
        return job(self.share(client.id), client, download, self.private.get(client.id))
