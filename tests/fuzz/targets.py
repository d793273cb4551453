"""What is fuzzed: every reader of what arrives from another machine, as (bytes that can be, check).

A check lets pass whatever is refused as it should be, and raises at anything else: another error
than a MessageError, much time or memory, or an upload that is let in and is not what was asked for.
"""

import json
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from polyrank.client.private import base_of
from polyrank.client.sending import Asked, receive, send
from polyrank.client.start import begin
from polyrank.errors import MessageError
from polyrank.flower import arrays, payload
from polyrank.flower.stated import consists, seconds, stated
from polyrank.lora.factor import Factors
from polyrank.messages import Upload
from polyrank.recipe.codecs import codec
from polyrank.seeds import derive
from polyrank.server.norms import begun, moved
from polyrank.wire.check import fitting, most_bytes, refusal, terms
from polyrank.wire.coded import decode_download, encode
from tests.algorithms.federation import Federation

# One of each form that an upload can have: both sides, one, a core, chosen slots, a cut rank.
ALGORITHMS = (
    "replicate", "flexlora", "flora", "hetlora", "ffa-lora", "rolora", "lora-a2", "fedsa-lora",
    "fed-sb", "catchup",
)  # fmt: skip
UP = ("fp32", "bf16", "int8", "int4", "topk(0.2)", "topk(0.2)+int8")
DOWN = ("fp32", "bf16", "int8", "int4")
HEAD = {"head.weight": torch.ones(3, 5), "head.bias": torch.zeros(3)}
ROOM = 2**28  # bytes that reading a message of some kilobytes may take beside what is there
PATIENCE = 2.0  # seconds of the processor
CLASSES = ("a", "b")
STATED = {"site": "s", "client": "0", "rank": 4, "own": 1, "examples": 5, "counts": "[2, 3]"}
DONE = {"factors": 40, "dense": 8, "seconds": 1.5}


class Target(NamedTuple):
    """A reader.

    Args:
        seed: bytes that it can read.
        check: of any bytes; raises at what must not be.
    """

    seed: bytes
    check: Callable[[bytes], None]


def targets() -> dict[str, Target]:
    """All of them, by name."""
    found: dict[str, Target] = {}
    for name in ALGORITHMS:
        fed = Federation(name, {}, [1, 2, 4], torch.float32)
        state = fed.later()
        found |= {f"up/{name}/{how}": _upload(fed, state, how) for how in UP}
        found |= {f"down/{name}/{how}": _download(fed, state, how) for how in DOWN}
    facts = payload.packed(STATED)
    array = ArrayRecord({f"q.lora_{s}.weight": Array(torch.ones(2, 3).T.numpy() if s == "B" else
                         torch.ones(3, 2).T.numpy()) for s in "AB"})  # fmt: skip
    found["answer/query"] = Target(_told(facts), _answered)
    found["answer/train"] = Target(_told(payload.packed(DONE, b"x" * 64)), _answered)
    found["answer/arrays"] = Target(_told(RecordDict({"arrays": array})), _adapter)
    return found


@contextmanager
def bounded() -> Iterator[None]:
    """Fails if what is done within takes much memory or much of the processor."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    start = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    if (took := time.process_time() - start) > PATIENCE:
        raise TimeoutError(f"took {took:.1f} s")


def _upload(fed: Federation, state: Any, how: str) -> Target:
    """A client's answer: decoded, checked, measured, and taken in by the algorithm."""
    client, used = fed.clients[1], codec(how)
    sent = replace(fed.algorithm.send(state, client), dense=HEAD)
    asked, expected = Asked(sent, client, fed.template, used), terms(sent, client, fed.template)
    start = begun(fed.algorithm, state, client, fed.template)._replace(dense=HEAD)
    upload = fed.upload(state, client, 7, change=0.1)
    upload = replace(upload, dense={n: t + 0.1 for n, t in HEAD.items()}, metrics={"loss": 1.0})
    private = fed.private.get(client.id, {})
    seed, _, _ = send(upload, asked, private, {}, derive(0, "fuzz"))
    assert len(seed) <= most_bytes(expected, HEAD)

    def check(data: bytes) -> None:
        with bounded():
            try:
                back = receive(data, asked)
            except MessageError:
                return
            if refusal(back, expected, HEAD) is None:
                _as_asked(back, fed.template, start.factors)
                norm = moved(back, start)
                _must(norm.factors >= 0 <= norm.dense, str(norm))
                after, _ = fed.algorithm.aggregate(state, [replace(back, weight=1.0)])
                for name, f in fed.algorithm.read(after).items():
                    _finite(name, f.a, fed.template[name].a.dtype)
                    _finite(name, f.b, fed.template[name].b.dtype)

    check(seed)
    return Target(seed, check)


def _as_asked(upload: Upload, template: Factors, start: Factors) -> None:
    """Finite matrices of the layers' shapes, whatever the decoder made of the bytes."""
    for name, f in upload.factors.items():
        like, most = template[name], start[name]
        fits = f.a.ndim == f.b.ndim == 2 and f.rank <= most.rank and f.shape == most.shape
        _must(fits, f"{name}: {f.a.shape} {f.b.shape}")
        _finite(name, f.a, like.a.dtype)
        _finite(name, f.scale * f.b, like.b.dtype)
        _must(math.isfinite(f.scale), f"{name}: scale {f.scale}")
    _must(upload.dense.keys() == HEAD.keys(), f"{sorted(upload.dense)}")
    for name, t in upload.dense.items():
        _must(t.shape == HEAD[name].shape, f"{name}: {t.shape}")
        _finite(name, t, HEAD[name].dtype)


def _finite(name: str, t: Tensor, dtype: torch.dtype) -> None:
    _must(t.dtype == dtype and bool(t.isfinite().all()), f"{name}: {t.dtype}, or not finite")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


def _download(fed: Federation, state: Any, how: str) -> Target:
    """What a node is sent: decoded, checked, and made a start of."""
    client, used = fed.clients[1], codec(how)
    sent = replace(fed.algorithm.send(state, client), dense=HEAD)
    seed, _ = encode(sent, used, derive(0, "fuzz"))
    private = fed.private.get(client.id, {})

    def check(data: bytes) -> None:
        with bounded():
            try:
                back = decode_download(data, used)
                fitting(back, client, fed.template, HEAD)
                base_of(back, client, private)
                start = begin(back, client, fed.template, private)
            except MessageError:
                return
            for name, f in start.items():
                _must(f.shape == fed.template[name].shape, f"{name}: {f.shape}")

    check(seed)
    return Target(seed, check)


def _answered(data: bytes) -> None:
    """What a node states, and what it says of its upload."""
    with bounded():
        try:
            facts, found = payload.taken(_records(data), 2**12)
        except MessageError:
            return
        for read in (partial(stated, 1, facts, CLASSES), partial(consists, facts, len(found)),
                     partial(seconds, facts)):  # fmt: skip
            try:
                read()
            except MessageError as error:
                text = str(error)
                _must(len(text) < 2000 and text.isprintable(), repr(text)[:200])


def _adapter(data: bytes) -> None:
    """An adapter of an ordinary app's client."""
    with bounded():
        try:
            record = _records(data).get("arrays")
            if not isinstance(record, ArrayRecord):  # which is seen to before
                return
            found = arrays.taken(record, 2.0)
        except MessageError:
            return
        numbers = sum(f.a.numel() + f.b.numel() for f in found.factors.values())
        numbers += sum(t.numel() for t in found.dense.values())
        _must(numbers <= len(data), f"{numbers} numbers of {len(data)} bytes")


def pulled_apart(data: bytes) -> tuple[Any, bytes]:
    """(JSON, bytes) of a length, as much JSON, and bytes: safetensors' own form.

    Raises:
        ValueError: it is not of that form.
    """
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_together(tree: Any, blob: bytes) -> bytes:
    """What `pulled_apart` takes apart."""
    text = json.dumps(tree).encode()
    return len(text).to_bytes(8, "little") + text + blob


def _told(records: RecordDict) -> bytes:
    """Flower's records in that form."""
    tree: dict[str, Any] = {}
    blob = b""
    for name, record in records.items():
        if isinstance(record, ConfigRecord):
            tree[name] = dict(record)
        elif isinstance(record, ArrayRecord):
            tree[name] = [[n, a.dtype, list(a.shape), a.stype, len(a.data)]
                          for n, a in record.items()]  # fmt: skip
            blob += b"".join(a.data for a in record.values())
    return put_together(tree, blob)


def _records(data: bytes) -> RecordDict:
    """Records of any kind, as far as Flower can carry them.

    Raises:
        MessageError: it cannot.
    """
    records = RecordDict()
    try:
        tree, blob = pulled_apart(data)
        for name, content in tree.items():
            if isinstance(content, Mapping):
                records[name] = ConfigRecord(dict(content))
                continue
            record = ArrayRecord()
            for key, dtype, shape, stype, length in content:
                part, blob = blob[:length], blob[length:]
                record[key] = Array(dtype, tuple(shape), stype, part)
            records[name] = record
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise MessageError("Flower does not carry this") from None
    return records
