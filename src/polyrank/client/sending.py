"""An upload on its way: encoded by the client, which keeps what it owes; decoded by the server."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Generator, Tensor

from polyrank.client.change import changed, known, restored
from polyrank.client.feedback import Owed, due, left
from polyrank.client.private import Private
from polyrank.client.start import begin
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.codecs import Codec
from polyrank.wire.coded import decode_upload, encode
from polyrank.wire.pack import Size


class Asked(NamedTuple):
    """What an upload answers to: known to both sides.

    Args:
        download: as it arrived at the client.
        client: to whom.
        template: one factor per adapted layer, for shapes and dtype.
        how: what uploads are encoded with.
    """

    download: Download
    client: Client
    template: Factors
    how: Codec


def send(
    upload: Upload, asked: Asked, before: Private, owed: Owed, draw: Generator
) -> tuple[bytes, Size, Owed]:
    """The client's part: (the upload as bytes, what they consist of, what the client owes now).

    Args:
        upload: after training.
        asked: what it answers to.
        before: what the client kept of its model, for where its slots started.
        owed: what it owes from its last uploads.
        draw: for stochastic rounding.
    """
    if asked.how.plain:
        return *encode(upload, asked.how, draw), {}
    base = known(asked.download, asked.client, asked.template)
    change = changed(upload, base)
    if asked.how.share is None:
        return *encode(change, asked.how, draw), {}
    at = _rows(asked, before)
    debt = due(owed, base, at)
    whole = restored(change, debt)
    data, size = encode(whole, asked.how, draw)
    now = left(whole, decode_upload(data, asked.how, base.numbers), debt, at)
    healthy = all(bool(t.isfinite().all()) for t in now.values())
    return data, size, now if healthy else owed


def receive(data: bytes, asked: Asked) -> Upload:
    """The server's part: the upload that the bytes stand for.

    Raises:
        MessageError: they are no well-formed answer to what was sent.
    """
    if asked.how.plain:
        return decode_upload(data, asked.how, 0)
    base = known(asked.download, asked.client, asked.template)
    return restored(decode_upload(data, asked.how, base.numbers), base)


def _rows(asked: Asked, before: Private) -> Mapping[str, Tensor]:
    """The rows of A that the client's slots started from; of a core they stay as they are."""
    if asked.download.up == "core":
        return {}
    start = begin(asked.download, asked.client, asked.template, before)
    return {name: f.a for name, f in start.items()}
