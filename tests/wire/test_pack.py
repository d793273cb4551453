"""Messages become bytes and come back the same; the bytes are what the formulas say."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyrank.errors import MessageError
from polyrank.lora.algebra import half
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Prune, Upload
from polyrank.wire.pack import (
    download_of,
    load_exactly,
    pack,
    save_exactly,
    size,
    taken_apart,
    unpack_download,
    unpack_upload,
    upload_of,
)


def factor(rank: int, out: int = 6, width: int = 5, scale: float = 0.5) -> Factor:
    rng = torch.Generator().manual_seed(rank)
    a = torch.randn(rank, width, generator=rng)
    return Factor(a, torch.randn(out, rank, generator=rng), scale)


def equal(x: Factor, y: Factor) -> bool:
    return torch.equal(x.a, y.a) and torch.equal(x.b, y.b) and x.scale == y.scale


UPLOAD = Upload(
    Client("hospital/ä", 3, seen=2),
    {"layer.0.query": factor(3), "layer.1.query": factor(3, scale=1 / 3)},
    examples=17,
    dense={"classifier.weight": torch.randn(4, 5)},
    metrics={"loss": 0.1},
)
DOWNLOAD = Download(
    start={"q": factor(2)},
    dense={"classifier.bias": torch.ones(4)},
    fold={"q": factor(7)},
    since=3,
    version=4,
    train="b",
)


def test_an_upload_comes_back_the_same() -> None:
    back = unpack_upload(pack(UPLOAD))
    assert (back.client, back.examples, back.metrics) == (UPLOAD.client, 17, {"loss": 0.1})
    assert all(equal(back.factors[n], f) for n, f in UPLOAD.factors.items())
    assert torch.equal(back.dense["classifier.weight"], UPLOAD.dense["classifier.weight"])


def test_a_download_comes_back_the_same() -> None:
    back = unpack_download(pack(DOWNLOAD))
    assert (back.fresh, back.since, back.version, back.train) == (None, 3, 4, "b")
    assert equal(back.start["q"], DOWNLOAD.start["q"])
    assert equal(back.fold["q"], DOWNLOAD.fold["q"])
    assert unpack_download(pack(Download(fresh=2**62))).fresh == 2**62


def test_what_a_download_asks_for_comes_back_the_same() -> None:
    core = {"q": torch.ones(3, 3)}
    asked = Download(core=core, train="core", send="a", keep="ab", prune=Prune(0.9, 0.1), select=5)
    data = pack(asked)
    back = unpack_download(data)
    assert torch.equal(back.core["q"], core["q"])
    assert replace(back, core={}) == replace(asked, core={})
    assert size(asked, data).factors == 9 * 4


def test_one_side_and_chosen_slots_come_back_the_same() -> None:
    sent = Upload(Client("c", 3), {"q": half(factor(3), "b")}, 1, slots={"q": (0, 2, 5), "v": ()})
    data = pack(sent)
    back = unpack_upload(data)
    assert equal(back.factors["q"], sent.factors["q"])
    assert back.factors["q"].a.shape == (3, 0)
    assert back.slots == sent.slots
    assert back.weight is None  # a client does not say how much it counts
    assert size(sent, data).factors == 3 * 6 * 4


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_sizes_are_those_of_the_tensors_and_the_header(ranks: list[int]) -> None:
    layers = {f"layer.{i}": factor(r, out=6, width=5) for i, r in enumerate(ranks)}
    message = Upload(Client("c", 1), layers, 1, {"head": torch.zeros(4, 5)})
    data = pack(message)
    measured = size(message, data)
    assert measured.factors == sum(r * (6 + 5) * 4 for r in ranks)  # r(m+n) parameters, float32
    assert measured.dense == 4 * 5 * 4
    header = 8 + int.from_bytes(data[:8], "little")
    assert measured.total == len(data) == header + measured.factors + measured.dense


def test_a_downloads_fold_counts_as_factors() -> None:
    data = pack(DOWNLOAD)
    assert size(DOWNLOAD, data).factors == (2 + 7) * 11 * 4


def test_the_same_message_is_the_same_bytes_in_another_process() -> None:
    code = (
        "import torch; from polyrank.wire.pack import save_exactly; import sys;"
        "t = {n: torch.arange(3.) for n in 'zaqxsw'};"
        "sys.stdout.buffer.write(save_exactly(t, {'b': 1, 'a': {'y': 2, 'x': 3}}))"
    )
    made = [subprocess.check_output([sys.executable, "-c", code]) for _ in range(2)]
    here = save_exactly({n: torch.arange(3.0) for n in "wsxqaz"}, {"a": {"x": 3, "y": 2}, "b": 1})
    assert made[0] == made[1] == here


def test_views_and_transposes_are_packed_by_value() -> None:
    whole = torch.arange(30.0).reshape(6, 5)
    views: dict[str, Tensor] = {"t": whole.T, "row": whole[2], "same": whole.T}
    back, _ = load_exactly(save_exactly(views, {}))
    assert all(torch.equal(back[n], v) for n, v in views.items())


@pytest.mark.parametrize("data", [b"", b"\x00" * 7, b"\xff" * 64, pack(UPLOAD)[:-1], b"{}" * 99])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="not a message of this package"):
        unpack_upload(data)


def test_a_message_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(MessageError, match="not a well-formed upload"):
        unpack_upload(pack(DOWNLOAD))
    with pytest.raises(MessageError, match="not a well-formed download"):
        unpack_download(pack(UPLOAD))


def test_factors_that_do_not_fit_each_other_are_refused() -> None:
    """In a process of its own: here the shape checks of the tests would refuse them first."""
    code = """
import torch
from polyrank.errors import MessageError
from polyrank.wire.pack import save_exactly, unpack_upload

facts = {"scales": {"factors/q": 1.0}, "client": ["c", 2, 0], "examples": 1, "metrics": {}}
a = torch.zeros(2, 5)
for b in (torch.zeros(6, 3), torch.zeros(6), torch.tensor(0.0), None):
    tensors = {"factors/q/a": a} if b is None else {"factors/q/a": a, "factors/q/b": b}
    try:
        unpack_upload(save_exactly(tensors, facts))
    except MessageError:
        continue
    raise SystemExit(f"accepted {b}")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_header_is_json_that_other_tools_can_read() -> None:
    data = pack(UPLOAD)
    length = int.from_bytes(data[:8], "little")
    names = set(json.loads(data[8 : 8 + length])) - {"__metadata__"}
    assert names == {
        *(f"factors/{n}/{t}" for n in UPLOAD.factors for t in "ab"),
        "dense/classifier.weight",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"examples": "12"},
        {"examples": 1.5},
        {"examples": True},
        {"client": ["a", "4", 0]},
        {"client": ["a"]},
        {"metrics": {"loss": "0"}},
        {"metrics": [1]},
        {"scales": {"factors/q": "1"}},
        {"slots": {"q": ["x"]}},
        {"slots": {"q": [1.0]}},
        {"metrics": {"loss": 10**400}},
    ],
)
def test_an_upload_with_facts_of_other_kinds_is_malformed(change: dict[str, object]) -> None:
    tensors, facts = taken_apart(Upload(Client("a", 2), {"q": factor(2)}, 12))
    assert upload_of(tensors, facts).examples == 12
    with pytest.raises(MessageError, match="not a well-formed upload"):
        upload_of(tensors, {**facts, **change})


def test_facts_nested_too_deep_are_no_message() -> None:
    data = save_exactly({"x": torch.ones(1)}, {})
    deep = data.replace(b"{}", b"[" * 200_000, 1)
    length = int.from_bytes(data[:8], "little") + 200_000 - 2
    with pytest.raises(MessageError):
        load_exactly(length.to_bytes(8, "little") + deep[8:])


@pytest.mark.parametrize(
    "change",
    [
        {"fresh": "1"}, {"since": None}, {"version": 1.0}, {"train": "x"}, {"send": "ba"},
        {"keep": None}, {"absorb": 1}, {"select": True}, {"prune": [1]}, {"prune": ["1", 0.1]},
    ],
)  # fmt: skip
def test_a_download_with_facts_of_other_kinds_is_malformed(change: dict[str, object]) -> None:
    tensors, facts = taken_apart(DOWNLOAD)
    assert download_of(tensors, facts).since == DOWNLOAD.since
    with pytest.raises(MessageError, match="not a well-formed download"):
        download_of(tensors, {**facts, **change})


def test_a_shape_of_no_numbers_that_torch_cannot_count_is_no_message() -> None:
    header = {"x": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]},
              "__metadata__": {"polyrank": "{}"}}  # fmt: skip
    text = json.dumps(header).encode()
    with pytest.raises(MessageError, match="not a message of this package"):
        load_exactly(len(text).to_bytes(8, "little") + text)
