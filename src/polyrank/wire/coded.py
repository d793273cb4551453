"""Messages as bytes under a codec; without one they are the bytes that `pack` makes.

A download is encoded as it is. What clients fold into their bases is rounded alike for all of
a round, so that clients with the same base still have the same one; the rest for each client by
itself, so that the errors of many clients average out. An upload is encoded as its change from what
both sides know (client/change.py).
"""

from collections.abc import Mapping
from typing import Any

from torch import Generator, Tensor

from polyrank.errors import MessageError
from polyrank.messages import Download, Upload
from polyrank.recipe.codecs import Codec
from polyrank.wire import codec, pack
from polyrank.wire.pack import Size, load_exactly, save_exactly

OWN, COMMON = "own", "common"  # the groups that a message's tensors are rounded in


def encode(
    message: Download | Upload, how: Codec, own: Generator, common: Generator | None = None
) -> tuple[bytes, Size]:
    """The message as bytes, and what they consist of.

    Args:
        message: any.
        how: the codec.
        own: draws the rounding of what is this client's alone.
        common: draws that of what goes into the base; None is like `own`.
    """
    if how.plain:
        data = pack.pack(message)
        return data, pack.size(message, data)
    tensors, facts = pack.taken_apart(message)
    parts, layout, spent = dict[str, Tensor](), dict[str, Any](), dict[str, int]()
    for group, draw in ((OWN, own), (COMMON, own if common is None else common)):
        some = {n: t for n, t in tensors.items() if _group(n, message) == group}
        if some:
            coded = codec.encode(some, how, draw)
            parts |= {f"{group}/{n}": t for n, t in coded.parts.items()}
            layout[group] = coded.layout
            spent |= coded.bytes
    data = save_exactly(parts, {**facts, "codec": str(how), "layout": layout})
    dense = sum(n for name, n in spent.items() if name.startswith("dense/"))
    return data, Size(len(data), sum(spent.values()) - dense, dense)


def decode_download(data: bytes, how: Codec) -> Download:
    """The download that `encode` made bytes of.

    Raises:
        MessageError: the bytes are not a well-formed download under this codec.
    """
    return pack.unpack_download(data) if how.plain else pack.download_of(*_decoded(data, how, None))


def decode_upload(data: bytes, how: Codec, most: int) -> Upload:
    """The upload that `encode` made bytes of.

    Args:
        data: what arrived.
        how: what it must be encoded with.
        most: how many numbers it may stand for at most; more are refused before they are made.

    Raises:
        MessageError: the bytes are not a well-formed upload under this codec.
    """
    return pack.unpack_upload(data) if how.plain else pack.upload_of(*_decoded(data, how, most))


def _decoded(
    data: bytes, how: Codec, most: int | None
) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    parts, facts = load_exactly(data)
    if (told := facts.get("codec", str(Codec()))) != str(how):
        raise MessageError(f"encoded as {told!r}, not as {str(how)!r}")
    layout = facts.get("layout")
    if not isinstance(layout, dict) or not layout.keys() <= {OWN, COMMON}:
        raise MessageError("not a well-formed message: it does not say what its parts are")
    tensors: dict[str, Tensor] = {}
    for group, entries in layout.items():
        start = f"{group}/"
        some = {n.removeprefix(start): t for n, t in parts.items() if n.startswith(start)}
        found = codec.decode(some, entries, how, most)
        if clash := sorted(tensors.keys() & found.keys()):
            raise MessageError(f"{clash[0]} arrived twice")
        tensors |= found
    return tensors, facts


def _group(name: str, message: Download | Upload) -> str:
    """Where a tensor is rounded: alike for all where it goes into the base."""
    into_base = isinstance(message, Download) and (
        name.startswith("fold/") or (message.absorb and name.startswith("start/"))
    )
    return COMMON if into_base else OWN
