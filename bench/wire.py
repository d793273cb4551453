"""Wire: bytes and seconds to pack, unpack and check one upload, by codec.

The raw tensors' bytes and the time of one copy of them are beside it: what a message could not be
quicker than.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

import torch

from bench.section import Limits, Row, Section
from polyrank.client.feedback import Owed
from polyrank.client.sending import Asked, receive, send
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.codecs import codec
from polyrank.seeds import derive
from polyrank.wire.check import refusal, terms
from polyrank.wire.pack import pack, size

CODECS = ("fp32", "bf16", "int8", "int4", "topk(0.1)", "topk(0.1)+int8")
MINILM, LARGE = (12, 384, 384), (32, 4096, 4096)  # (layers, out, in)
CLASSES = 10


class Case(NamedTuple):
    """An upload: how many layers of which shape, at which rank, and a head."""

    name: str
    layers: tuple[int, int, int]
    rank: int
    repeats: int


CASES = (
    Case("MiniLM, rank 8", MINILM, 8, 15),
    Case("MiniLM, rank 64", MINILM, 64, 15),
    Case("100 MB", LARGE, 96, 5),
)
Steps = dict[str, float]  # seconds by step
T = TypeVar("T")


def run(quick: bool, limits: Limits) -> Section:
    """Every upload under every codec; quick: fewer repetitions, and 100 MB as fp32 and int8 only.

    Args:
        quick: the short version.
        limits: the machine's, and how much is asked of it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(limits.threads)
    try:
        rows = [row for case in CASES[: 1 if limits.tiny else None]
                for row in _measured(case, quick, limits)]  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    return Section("Wire", rows, _ratios(rows), list(NOTES))


NOTES = (
    "One upload: a client's change from what it was sent, packed (encoded), unpacked (decoded and "
    "added to what was sent), and checked by the server. fp32 is packed as it is.",
    "`share` is of the raw tensors' bytes; `over copy` is pack, unpack and check over the time of "
    "one copy of the raw tensors.",
    "top-k packs with error feedback, which decodes its own message to know what it left out.",
)


def _measured(case: Case, quick: bool, limits: Limits) -> list[Row]:
    """A row for each codec, from repetitions in alternation."""
    upload, download, template = _exchange(case)
    raw = size(upload, pack(upload))
    some = CODECS if not quick or case.layers != LARGE else ("fp32", "int8")
    asked = {c: Asked(download, upload.client, template, codec(c)) for c in some}
    owed = {c: send(upload, a, {}, {}, _draw(0))[2] for c, a in asked.items()}
    found: dict[str, list[tuple[Steps, int]]] = {c: [] for c in some}
    for turn in range(2 if limits.tiny else 3 if quick else case.repeats):
        for name, one in asked.items():
            found[name].append(_timed(upload, one, owed[name], turn))
    rows: list[Row] = []
    for name, answers in found.items():
        rows.append(_row(case, name, raw.factors + raw.dense, answers, limits.copy))
        limits.tell(rows[-1])
    return rows


def _timed(upload: Upload, asked: Asked, owed: Owed, turn: int) -> tuple[Steps, int]:
    """(seconds by step, bytes) of one upload on its way."""
    wanted = terms(asked.download, asked.client, _zeros(asked, upload.client.rank))
    (data, _, _), packing = _clocked(lambda: send(upload, asked, {}, owed, _draw(turn)))
    arrived, unpacking = _clocked(lambda: receive(data, asked))
    reason, checking = _clocked(lambda: refusal(arrived, wanted, asked.download.dense))
    if reason is not None:
        raise RuntimeError(f"the server refuses the upload: {reason}")
    return {"pack s": packing, "unpack s": unpacking, "check s": checking}, len(data)


def _row(case: Case, name: str, raw: int, answers: Sequence[tuple[Steps, int]], copy: float) -> Row:
    steps = {k: median(s[k] for s, _ in answers) for k in answers[0][0]}
    total, bytes = sum(steps.values()), int(median(n for _, n in answers))
    return {
        "upload": case.name, "codec": name, "raw MB": raw / 1e6, "MB": bytes / 1e6,
        "share": bytes / raw, **steps, "raw MB/s": raw / 1e6 / total,
        "over copy": total / (raw / copy),
    }  # fmt: skip


def _ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Bytes over raw bytes, and seconds over a copy's, of the largest upload there is."""
    last = [r for r in rows if r["upload"] == rows[-1]["upload"]]
    found = {}
    for row in last:
        name = "".join(c if c.isalnum() else "_" for c in str(row["codec"])).replace("__", "_")
        found[f"wire_bytes_over_raw_{name}"] = float(str(row["share"]))
        found[f"wire_seconds_over_copy_{name}"] = float(str(row["over copy"]))
    return found


def _exchange(case: Case) -> tuple[Upload, Download, dict[str, Factor]]:
    """(what a client sends, what it was sent, the layers' shapes)."""
    layers, out, inn = case.layers
    rng = derive(0, "bench", "wire", case.name)

    def factor() -> Factor:
        return Factor(torch.randn(case.rank, inn, generator=rng) / inn**0.5,
                      0.01 * torch.randn(out, case.rank, generator=rng))  # fmt: skip

    def moved(t: torch.Tensor) -> torch.Tensor:
        return t + 0.001 * torch.randn(t.shape, generator=rng)

    start = {f"layer.{i}.query": factor() for i in range(layers)}
    head = {"classifier.weight": torch.zeros(CLASSES, inn), "classifier.bias": torch.zeros(CLASSES)}
    ends = {n: Factor(moved(f.a), moved(f.b)) for n, f in start.items()}
    upload = Upload(Client("c", case.rank), ends, 100, {n: moved(t) for n, t in head.items()})
    shapes = {n: Factor(f.a[:1], f.b[:, :1]) for n, f in start.items()}
    return upload, Download(start=start, dense=head), shapes


def _zeros(asked: Asked, rank: int) -> dict[str, Factor]:
    """A template at the rank, without memory of its own."""
    return {n: Factor(f.a.expand(rank, -1), f.b.expand(-1, rank))
            for n, f in asked.template.items()}  # fmt: skip


def _draw(turn: int) -> torch.Generator:
    return derive(0, "bench", "codec", turn)


def _clocked(what: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    found = what()
    return found, time.perf_counter() - begun
