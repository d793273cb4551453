"""All clients in this process, some at a time, over one base model.

Messages become bytes and are read back, so that traffic is measured and not computed.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from polyrank.client.fit import fit, receive
from polyrank.client.job import Job, Share, job, together
from polyrank.client.model import Workbench
from polyrank.client.placing import seat
from polyrank.engine import passing
from polyrank.engine.store import Shelf
from polyrank.errors import MessageError
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.schema import Recipe
from polyrank.server.loop import Reply
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
        begun = time.monotonic()
        try:
            found = fit(self.bench, passing.task(self.recipe, round), jobs)
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
        data, size = passing.delivery(self.recipe, round, client, download)
        return passing.delivered(self.recipe, data), size

    def _sent(self, round: int, one: Job, upload: Upload) -> tuple[Upload, Size]:
        """The upload as it arrives, and what it weighs; what the client owes now is kept."""
        id, recipe, bench = one.client.id, self.recipe, self.bench
        data, size, owed = passing.answer(recipe, bench, round, one, upload, self.owed.get(id))
        self.owed.put(id, owed)
        return passing.answered(recipe, bench, one.client, one.download, data), size

    def _job(self, client: Client, download: Download) -> Job:
        return job(self.share(client.id), client, download, self.private.get(client.id))
