"""Tensors come back as near as each codec promises, without bias, in as few bytes; and nothing
that arrives makes the decoder do more than it was asked for."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyrank.errors import MessageError
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.codecs import Codec, codec
from polyrank.seeds import derive
from polyrank.wire import rounding, sparse
from polyrank.wire.codec import decode, encode
from polyrank.wire.coded import decode_download, decode_upload
from polyrank.wire.coded import encode as message
from polyrank.wire.pack import load_exactly, pack, save_exactly, size

LOSSY = ["bf16", "int8", "int4"]
CHAINS = ["topk(0.1)", *(f"topk(0.3)+{n}" for n in LOSSY)]
SHAPES = st.lists(st.integers(0, 40), min_size=0, max_size=3).map(tuple)


def draw(seed: int = 0) -> torch.Generator:
    return derive(seed, "test")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=derive(seed, "random"))


def there_and_back(tensors: dict[str, Tensor], how: str, seed: int = 0) -> dict[str, Tensor]:
    coded = encode(tensors, codec(how), draw(seed))
    layout = json.loads(json.dumps(coded.layout))
    return decode(coded.parts, layout, codec(how), sum(t.numel() for t in tensors.values()))


@given(
    st.dictionaries(st.sampled_from(["x/a", "x/b", "y/a", "y/b", "z"]), SHAPES),
    st.sampled_from(["fp32", *LOSSY, *CHAINS]),
)
def test_names_shapes_and_kinds_come_back(shapes: dict[str, tuple[int, ...]], how: str) -> None:
    tensors = {n: random(*s) for n, s in shapes.items()}
    back = there_and_back(tensors, how)
    assert {n: (t.shape, t.dtype) for n, t in back.items()} == {
        n: (t.shape, t.dtype) for n, t in tensors.items()
    }
    assert all(t.is_contiguous() for t in back.values())


@given(SHAPES, st.sampled_from(["x/a", "x/b", "head"]), st.integers(-30, 30))
def test_the_error_of_each_kind_is_bounded(shape: tuple[int, ...], name: str, power: int) -> None:
    x = random(*shape) * 2.0**power
    off = {h: (there_and_back({name: x}, h)[name] - x).abs() for h in ("fp32", *LOSSY)}
    assert not off["fp32"].any()
    assert (off["bf16"] <= x.abs() / 256).all()
    for how, top in (("int8", 127), ("int4", 7)):
        assert (off[how] <= 1.001 * x.abs().max() / top).all() if x.numel() else True


def test_a_slot_is_scaled_by_itself() -> None:
    """A slot far smaller than its neighbours is as exact as they are, on either side."""
    sizes = torch.tensor([1.0, 1e-6, 1e6])
    a, b = random(3, 50) * sizes[:, None], random(70, 3, seed=1) * sizes
    back = there_and_back({"q/a": a, "q/b": b}, "int8")
    assert ((back["q/a"] - a).norm(dim=1) < 0.02 * a.norm(dim=1)).all()
    assert ((back["q/b"] - b).norm(dim=0) < 0.02 * b.norm(dim=0)).all()


@pytest.mark.parametrize("how", ["int8", "int4"])
def test_rounding_is_unbiased(how: str) -> None:
    """The mean of n draws lies within six standard errors of every number: σ ≤ s/2 of each."""
    x, n = random(6, 200), 4000
    many = torch.stack([there_and_back({"x": x}, how, seed)["x"] for seed in range(n)])
    scale = x.abs().max() / rounding.TOP[codec(how).numbers]
    assert (many.mean(0) - x).abs().max() < 6 * scale / 2 / math.sqrt(n)
    assert many.std(0).max() > scale / 4  # it is drawn, not rounded to nearest
    product = (many[:, :3] * many[:, 3:]).mean(0)  # rows are drawn apart: products are unbiased too
    assert (product - x[:3] * x[3:]).abs().max() < 6 * scale * x.abs().max() / math.sqrt(n)


def test_bf16_is_to_nearest_whatever_the_seed() -> None:
    x = {"x": random(7, 9)}
    assert torch.equal(there_and_back(x, "bf16", 1)["x"], x["x"].bfloat16().float())
    assert torch.equal(there_and_back(x, "bf16", 1)["x"], there_and_back(x, "bf16", 2)["x"])


@pytest.mark.parametrize("how", LOSSY + CHAINS)
def test_the_same_seed_is_the_same_bytes(how: str) -> None:
    x = {"q/a": random(4, 30), "q/b": random(50, 4)}
    one, same, other = (encode(x, codec(how), draw(seed)).parts for seed in (1, 1, 2))
    assert all(torch.equal(t, same[n]) for n, t in one.items())
    drawn = "int" in how
    assert all(torch.equal(t, other[n]) for n, t in one.items()) != drawn


@pytest.mark.parametrize("how", ["fp32", *LOSSY, *CHAINS])
def test_zeros_and_constant_rows_come_back(how: str) -> None:
    x = torch.stack([torch.zeros(40), torch.full((40,), 3.0), torch.full((40,), -1e-20)])
    back = there_and_back({"x": x, "none": torch.zeros(5)}, how)
    assert not back["none"].any()
    assert not back["x"][0].any()
    if "topk" not in how:
        torch.testing.assert_close(back["x"], x, rtol=1e-2, atol=0)


@pytest.mark.parametrize("how", LOSSY + CHAINS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_does_not_become_finite(how: str, bad: float) -> None:
    x = random(5, 30)
    x[2, 7] = bad
    back = there_and_back({"x": x, "y": random(5, 30)}, how)
    assert not back["x"].isfinite().all()
    assert back["y"].isfinite().all()


@pytest.mark.parametrize("how", ["int8", "topk(0.5)+int4"])
def test_only_float32_is_encoded(how: str) -> None:
    exact = {"steps": torch.arange(5), "mask": torch.tensor([True, False]),
             "precise": random(3, 3).double()}  # fmt: skip
    back = there_and_back({**exact, "x": random(3, 3)}, how)
    for name, t in exact.items():
        assert back[name].dtype == t.dtype
        assert torch.equal(back[name], t)


@given(st.integers(1, 400), st.floats(0.001, 1.0), st.integers(0, 9))
def test_the_largest_numbers_are_kept_as_they_are(n: int, share: float, seed: int) -> None:
    x = random(n, seed=seed)
    x[: n // 3] = 0.5  # equal ones
    k = sparse.count(share, n)
    back = there_and_back({"x": x}, f"topk({share:.6f})")["x"]
    assert int((back != 0).sum()) == int((x[sparse.largest(x, k)] != 0).sum())
    assert torch.equal(back[back != 0], x[back != 0])
    assert x[back != 0].abs().min() >= x[back == 0].abs().max() if k < n else True


@given(st.sets(st.integers(0, 5000), min_size=1), st.integers(0, 3000))
def test_places_come_back(places: set[int], more: int) -> None:
    at = torch.tensor(sorted(places))
    data, ends = sparse.write(at)
    assert torch.equal(sparse.read(data, len(at), int(at[-1]) + 1 + more), at)
    assert int(ends[-1]) == len(data) <= len(at) + int(at[-1]) // 255 + 1


UPLOAD = Upload(
    Client("c", 8), {f"{i}.q": Factor(random(8, 384), random(384, 8)) for i in range(6)}, 9,
    {"head": random(10, 384), "bias": random(10)}, {"loss": 1.0},
)  # fmt: skip
NUMBERS = 6 * 8 * 768 + 3850


@pytest.mark.parametrize(
    ("how", "share"),
    [("bf16", 1 / 2), ("int8", 1 / 4), ("int4", 1 / 8), ("topk(0.1)", 1 / 8),
     ("topk(0.1)+int8", 1 / 20)],
)  # fmt: skip
def test_bytes_are_about_what_is_promised(how: str, share: float) -> None:
    data, told = message(UPLOAD, codec(how), draw())
    plain = size(UPLOAD, pack(UPLOAD))
    assert 0.99 * share < told.factors / plain.factors < 1.07 * share
    assert 0.99 * share < told.total / plain.total < 1.2 * share
    header = 8 + int.from_bytes(data[:8], "little")
    assert told.total == len(data) == header + told.factors + told.dense
    assert codec(how).bytes == pytest.approx(4 * told.factors / plain.factors, rel=0.08)
    back = decode_upload(data, codec(how), NUMBERS)
    assert (back.client, back.examples, back.metrics) == (UPLOAD.client, 9, {"loss": 1.0})


def test_without_a_codec_the_bytes_are_those_of_pack() -> None:
    data, told = message(UPLOAD, Codec(), draw())
    assert data == pack(UPLOAD)
    assert told == size(UPLOAD, data)


@pytest.mark.parametrize("how", LOSSY)
def test_what_goes_into_the_base_is_rounded_alike_for_all(how: str) -> None:
    f, g = Factor(random(3, 20), random(30, 3)), Factor(random(5, 20), random(30, 5))
    sent = Download(start={"q": f}, fold={"q": g, "v": g}, core={"q": random(3, 3)}, fresh=2**62)
    for absorb in (False, True):
        one, other = (
            decode_download(
                message(replace(sent, absorb=absorb), codec(how), draw(client), draw(99))[0],
                codec(how),
            )
            for client in (1, 2)
        )
        assert all(torch.equal(one.fold[n].a, other.fold[n].a) for n in "qv")
        alike = torch.equal(one.start["q"].b, other.start["q"].b)
        assert alike == (absorb or how == "bf16")
        assert (one.fresh, one.fold["q"].rank, one.core["q"].shape) == (2**62, 5, (3, 3))


@given(st.data())
def test_damaged_bytes_are_refused_or_decoded_within_bounds(data: st.DataObject) -> None:
    """Any bytes changed, any facts changed: a MessageError, or tensors of at most so many."""
    how = codec(data.draw(st.sampled_from(["bf16", "int8", "int4", "topk(0.2)+int8"])))
    small = replace(UPLOAD, factors={"q": Factor(random(2, 9), random(7, 2))}, dense={})
    good, _ = message(small, how, draw())
    parts, facts = load_exactly(good)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(good) - 1))
        bad = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    else:
        json_like = st.recursive(
            st.none() | st.booleans() | st.integers(-3, 2**70) | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
                st.sampled_from(["own", "common", "q"]), inner, max_size=2
            ),
        )  # fmt: skip
        shape = st.lists(st.integers(-1, 2**33), max_size=9)
        entries = st.lists(
            st.tuples(st.sampled_from(["factors/q/a", "factors/q/b", "dense/x"]), shape)
        )
        layout = st.fixed_dictionaries({"own": entries | json_like}) | json_like
        names = data.draw(st.sets(st.sampled_from(sorted(parts))))
        kept = {n: t for n, t in parts.items() if n not in names}
        if data.draw(st.booleans()) and kept:
            first = min(kept)
            kept[first] = kept[first].flatten()[: data.draw(st.integers(0, 9))].clone()
        bad = save_exactly(kept, {**facts, "layout": data.draw(layout)})
    try:
        back = decode_upload(bad, how, 32)
    except MessageError:
        return
    assert sum(f.a.numel() + f.b.numel() for f in back.factors.values()) <= 32


def test_a_few_bytes_that_stand_for_gigabytes_are_refused_before_they_are_made() -> None:
    how = codec("topk(0.000001)")
    parts = {"own/1/numbers": torch.ones(1, 1), "own/places": torch.zeros(1, dtype=torch.uint8)}
    facts = {
        "codec": str(how), "layout": {"own": [["factors/q/a", [2**20, 2**20]]]}, "scales": {},
        "client": ["c", 1, 0], "examples": 1, "metrics": {}, "slots": {},
    }  # fmt: skip
    with pytest.raises(MessageError, match="more than the 100 that were sent"):
        decode_upload(save_exactly(parts, facts), how, 100)


def test_another_codec_than_the_recipes_is_refused() -> None:
    data, _ = message(UPLOAD, codec("int8"), draw())
    with pytest.raises(MessageError, match="encoded as 'int8', not as 'int4'"):
        decode_upload(data, codec("int4"), NUMBERS)
    with pytest.raises(MessageError, match="not a well-formed upload"):
        decode_upload(data, Codec(), NUMBERS)
    with pytest.raises(MessageError, match="encoded as 'fp32', not as 'int8'"):
        decode_upload(pack(UPLOAD), codec("int8"), NUMBERS)
