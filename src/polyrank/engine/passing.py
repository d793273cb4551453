"""What client and server do with a message, wherever each of them runs.

Everything is a function of the recipe, so that every engine sends the same bytes.
"""

from polyrank.client.feedback import Owed
from polyrank.client.job import Job, Task
from polyrank.client.model import Workbench, template
from polyrank.client.sending import Asked, send
from polyrank.client.sending import receive as received
from polyrank.messages import Client, Download, Upload
from polyrank.recipe import Recipe
from polyrank.recipe.codecs import codec
from polyrank.seeds import derive
from polyrank.wire.coded import decode_download, encode
from polyrank.wire.pack import Size


def task(recipe: Recipe, round: int) -> Task:
    """What the recipe asks of every client in a round."""
    return Task(recipe.lora, recipe.local, round, recipe.rounds, recipe.seed)


def delivery(recipe: Recipe, round: int, client: Client, download: Download) -> tuple[bytes, Size]:
    """The server's part: a download as bytes, and what they consist of."""
    how, seed = codec(recipe.wire.down), recipe.seed
    own = derive(seed, "codec", round, client.id, "down")
    return encode(download, how, own, derive(seed, "codec", round, "down"))


def delivered(recipe: Recipe, data: bytes) -> Download:
    """The client's part: the download that arrived.

    Raises:
        MessageError: the bytes are not a well-formed download.
    """
    return decode_download(data, codec(recipe.wire.down))


def answer(
    recipe: Recipe, bench: Workbench, round: int, one: Job, upload: Upload, owed: Owed
) -> tuple[bytes, Size, Owed]:
    """The client's part: (its upload as bytes, what they consist of, what it owes now).

    Args:
        recipe: what is done.
        bench: the base model.
        round: this round's number.
        one: what the client did.
        upload: after training.
        owed: what its last uploads left out.
    """
    draw = derive(recipe.seed, "codec", round, one.client.id, "up")
    return send(upload, asked(recipe, bench, one.client, one.download), one.before, owed, draw)


def answered(
    recipe: Recipe, bench: Workbench, client: Client, download: Download, data: bytes
) -> Upload:
    """The server's part: the upload that arrived.

    Args:
        recipe: what is done.
        bench: the base model.
        client: who was asked.
        download: what it was sent, as it arrived there.
        data: what it answered.

    Raises:
        MessageError: the bytes are no well-formed answer to what was sent.
    """
    return received(data, asked(recipe, bench, client, download))


def asked(recipe: Recipe, bench: Workbench, client: Client, download: Download) -> Asked:
    """What an upload answers to."""
    return Asked(download, client, template(bench, 1), codec(recipe.wire.up))
