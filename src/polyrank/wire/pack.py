"""Messages as safetensors bytes: the same bytes for the same message, and no pickle.

total = header + factors + dense        (bytes; the header holds names, shapes and numbers)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from polyrank.errors import MessageError
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.messages import Client, Download, Kept, Prune, Sides, Upload

# What reading facts and tensors of unexpected shapes can raise (RankError is a ValueError).
MALFORMED = (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of one message: all of them, those of the factors, those of the dense tensors."""

    total: int
    factors: int
    dense: int


def pack(message: Download | Upload) -> bytes:
    """The message as bytes."""
    return save_exactly(*taken_apart(message))


def taken_apart(message: Download | Upload) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors by name, facts as JSON) of a message."""
    if isinstance(message, Download):
        parts = {"start": message.start, "fold": message.fold}
        facts: dict[str, Any] = {
            "fresh": message.fresh,
            "since": message.since,
            "version": message.version,
            "train": message.train,
            "send": message.send,
            "keep": message.keep,
            "absorb": message.absorb,
            "prune": message.prune and [message.prune.keep, message.prune.penalty],
            "select": message.select,
        }
    else:
        parts = {"factors": message.factors}
        facts = {
            "client": [message.client.id, message.client.rank, message.client.seen],
            "examples": message.examples,
            "metrics": dict(message.metrics),
            "slots": {name: list(slots) for name, slots in message.slots.items()},
        }
    tensors, scales = _tensors(parts, message.dense)
    if isinstance(message, Download):
        tensors |= {f"core/{name}": t for name, t in message.core.items()}
    return tensors, {**facts, "scales": scales}


def unpack_download(data: bytes) -> Download:
    """The download that `pack` made bytes of.

    Raises:
        MessageError: the bytes are not a well-formed download.
    """
    return download_of(*load_exactly(data))


def download_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Download:
    """The download that `taken_apart` gave the parts of.

    Raises:
        MessageError: they are not those of a well-formed download.
    """
    try:
        return Download(
            start=_factors("start", tensors, facts["scales"]),
            fold=_factors("fold", tensors, facts["scales"]),
            core=_plain("core", tensors),
            dense=_plain("dense", tensors),
            prune=None if facts["prune"] is None else Prune(*map(_number, facts["prune"])),
            fresh=None if facts["fresh"] is None else _whole(facts["fresh"]),
            since=_whole(facts["since"]),
            version=_whole(facts["version"]),
            train=_one_of(get_args(Sides), facts["train"]),
            send=None if facts["send"] is None else _one_of(get_args(Sides), facts["send"]),
            keep=_one_of(get_args(Kept), facts["keep"]),
            absorb=_one_of((False, True), facts["absorb"]),
            select=None if facts["select"] is None else _whole(facts["select"]),
        )
    except MALFORMED as error:
        raise MessageError(f"not a well-formed download: {error!r}") from None


def unpack_upload(data: bytes) -> Upload:
    """The upload that `pack` made bytes of.

    Raises:
        MessageError: the bytes are not a well-formed upload.
    """
    return upload_of(*load_exactly(data))


def upload_of(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Upload:
    """The upload that `taken_apart` gave the parts of.

    Raises:
        MessageError: they are not those of a well-formed upload.
    """
    try:
        id, rank, seen = facts["client"]
        return Upload(
            client=Client(str(id), _whole(rank), _whole(seen)),
            factors=_factors("factors", tensors, facts["scales"]),
            examples=_whole(facts["examples"]),
            dense=_plain("dense", tensors),
            metrics={str(name): _number(value) for name, value in facts["metrics"].items()},
            slots={name: tuple(map(_whole, slots)) for name, slots in facts["slots"].items()},
        )
    except MALFORMED as error:
        raise MessageError(f"not a well-formed upload: {error!r}") from None


def size(message: Download | Upload, data: bytes) -> Size:
    """What the bytes of a packed message consist of."""
    both = (
        {**message.start, **{f"fold {n}": f for n, f in message.fold.items()}}
        if isinstance(message, Download)
        else message.factors
    )
    factors = sum(_bytes(f.a) + _bytes(f.b) for f in both.values())
    if isinstance(message, Download):
        factors += sum(map(_bytes, message.core.values()))
    return Size(len(data), factors, sum(map(_bytes, message.dense.values())))


def save_exactly(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Tensors and JSON facts as safetensors bytes, the same for the same content.

    One metadata key only: safetensors writes several in an order that differs between runs.
    """
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return save(plain, {"polyrank": json.dumps(facts, sort_keys=True)})


def load_exactly(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_exactly` made bytes of.

    Raises:
        MessageError: not safetensors, or without this package's facts.
    """
    try:
        # RuntimeError: shapes of no numbers whose strides torch cannot count.
        # Copies: the bytes lie anywhere, and products of tensors that do may round differently.
        read = load(data)
        tensors = {name: read.pop(name).clone() for name in list(read)}
        length = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["polyrank"])
    except (SafetensorError, RecursionError, RuntimeError, *MALFORMED) as error:
        raise MessageError(f"not a message of this package: {error}") from None
    if not isinstance(facts, dict):
        raise MessageError("not a message of this package: its facts are no mapping")
    return tensors, facts


def _tensors(
    parts: Mapping[str, Factors], dense: Dense
) -> tuple[dict[str, Tensor], dict[str, float]]:
    tensors = {f"dense/{name}": t for name, t in dense.items()}
    scales = {}
    for part, factors in parts.items():
        for name, f in factors.items():
            tensors |= {f"{part}/{name}/a": f.a, f"{part}/{name}/b": f.b}
            scales[f"{part}/{name}"] = f.scale
    return tensors, scales


def _factors(part: str, tensors: Mapping[str, Tensor], scales: Mapping[str, float]) -> Factors:
    return {
        key.removeprefix(f"{part}/"): Factor(
            tensors[f"{key}/a"], tensors[f"{key}/b"], _number(scale)
        )
        for key, scale in scales.items()
        if key.startswith(f"{part}/")
    }


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _one_of(valid: Sequence[Any], value: object) -> Any:
    if type(value) is not type(valid[0]) or value not in valid:
        raise TypeError(f"{value!r} is none of {valid}")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _plain(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {key: t for key, t in tensors.items() if key.startswith(f"{part}/")}
    return {key.removeprefix(f"{part}/"): t for key, t in found.items()}


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()
