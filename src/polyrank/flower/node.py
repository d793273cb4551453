"""A node's work: say who it is, and do a round through the one trainer."""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyrank.client.fit import fit
from polyrank.client.job import job
from polyrank.client.model import template
from polyrank.client.placing import dense
from polyrank.engine import passing
from polyrank.errors import MessageError, StorageError
from polyrank.experiment.ready import checked
from polyrank.flower.ledger import RUN, Ledger, forget
from polyrank.flower.share import Prepared, available, labels, prepared
from polyrank.flower.site import Site, read
from polyrank.messages import Client
from polyrank.recipe.load import parsed
from polyrank.version import __version__
from polyrank.wire.check import fitting

Told = dict[str, Any]


@dataclass(slots=True)
class Node:
    """What a node has loaded: model and data for the last recipe that it was asked about."""

    name: str = ""
    loaded: Prepared | None = None

    def answer(self, request: Mapping[str, Any], data: bytes) -> tuple[Told, bytes]:
        """The answer to one message.

        Args:
            request: `kind` of message, the `site` it is for, and the `facts` that came with it.
            data: the download, if any.

        Raises:
            PolyrankError: it cannot be done; the node goes on.
        """
        site, facts = read(request["site"]), request["facts"]
        if facts.get("version") != __version__:
            raise MessageError(
                f"{site.name} has polyrank {__version__}, the server {facts.get('version')}; "
                "install the same on both"
            )
        if request["kind"] == "query":
            return self._who(site, facts), b""
        return self._round(site, facts, data)

    def _who(self, site: Site, facts: Mapping[str, Any]) -> Told:
        strange: Told = {}
        if site.data:
            found = labels(parsed(facts["recipe"], "the server's recipe"), site)
            unknown = set(found) - set(json.loads(facts["classes"]))
            strange = {"unknown": json.dumps(sorted(unknown))} if unknown else {}
        if strange:
            return {"site": site.name, "client": site.name, **strange}
        held = self._prepared(site, facts)
        return {
            "site": site.name,
            "client": held.client,
            "rank": site.rank or 0,
            "own": int(site.data is not None),
            "examples": len(held.share.train),
            "counts": json.dumps([*held.counts.values()]),
            "memory": site.memory or available(held.bench),
            "measured": int(site.memory is None),
            "version": __version__,
        }

    def _round(self, site: Site, facts: Mapping[str, Any], data: bytes) -> tuple[Told, bytes]:
        begun, held = time.monotonic(), self._prepared(site, facts)
        client = Client(str(facts["client"]), int(facts["rank"]), int(facts["seen"]))
        number, since, run = int(facts["round"]), int(facts["since"]), str(facts["run"])
        if client.id != held.client:
            raise MessageError(f"{site.name} is client {held.client!r}, not {client.id!r}")
        if site.rank not in (None, client.rank):
            raise MessageError(f"{site.name} trains rank {site.rank}, not {client.rank}")
        if not RUN.fullmatch(run):
            raise MessageError(f"{run!r} is not the name of a run")
        ledger = Ledger(site.home / "runs" / run)
        if not ledger.folder.exists():
            _forget(ledger.folder.parent, site.keep)
        before, owed = ledger.at(since)
        sent, bench = passing.delivered(held.recipe, data), held.bench
        fitting(sent, client, template(bench, 1), dense(bench))
        one = job(held.share, client, sent, before)
        try:
            ((private, upload),) = fit(held.bench, passing.task(held.recipe, number), [one])
        except RuntimeError as error:  # torch's own, such as no memory left
            raise MessageError(str(error).partition("\n")[0]) from None
        answer, size, owed = passing.answer(held.recipe, held.bench, number, one, upload, owed)
        ledger.add(number, since, private, owed)
        seconds = time.monotonic() - begun
        return {"factors": size.factors, "dense": size.dense, "seconds": seconds}, answer

    def _prepared(self, site: Site, facts: Mapping[str, Any]) -> Prepared:
        name = repr((site, facts["recipe"], facts["classes"]))
        if self.loaded is None or self.name != name:
            self.loaded = None  # two models at once might not fit
            recipe = parsed(facts["recipe"], "the server's recipe")
            checked(recipe)
            self.loaded, self.name = prepared(recipe, json.loads(facts["classes"]), site), name
        return self.loaded


def _forget(runs: Path, keep: int) -> None:
    """Make room where a new run begins; if that fails, the run goes on and the log says so."""
    try:
        said = [f"forgot run {name}: keep = {keep} of others" for name in forget(runs, keep)]
    except StorageError as error:
        said = [str(error)]
    for text in said:
        sys.stderr.write(f"{text}\n")


NODE = Node()
