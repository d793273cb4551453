"""Adapters become one: the same ΔW as a dense float64 reference, as PEFT itself loads it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polyrank import algorithms
from polyrank.adapters.aggregate import able
from polyrank.adapters.combining import Asked, combine
from polyrank.errors import PolyrankError
from tests.adapters.folders import BASE, SHAPES, Tiny, Written, as_peft_loads, write

Q0, V0, Q1, DOWN = SHAPES


def exact(written: Sequence[Written], weights: Sequence[float]) -> dict[str, Tensor]:
    """Each layer's weighted mean over the adapters that have it."""
    found = {}
    for name in SHAPES:
        held = [(w.deltas[name], p) for w, p in zip(written, weights, strict=True)
                if name in w.ranks]  # fmt: skip
        if held:
            found[name] = sum(d * p for d, p in held) / sum(p for _, p in held)
    return found


def by_slot(
    written: Sequence[Written], weights: Sequence[float], dilute: bool
) -> dict[str, Tensor]:
    """B A of the slots' means, over their holders or over everyone who has the layer."""
    found = {}
    for name, (out, width) in SHAPES.items():
        held = [(*w.factors[name], p) for w, p in zip(written, weights, strict=True)
                if name in w.ranks]  # fmt: skip
        if not held:
            continue
        delta = torch.zeros(out, width, dtype=torch.float64)
        for j in range(max(len(a) for a, _, _ in held)):
            holders = [(a[j], b[:, j], p) for a, b, p in held if j < len(a)]
            total = sum(p for *_, p in (held if dilute else holders))
            row = sum(p * a for a, _, p in holders) / total
            column = sum(p * b for _, b, p in holders) / total
            delta += torch.outer(column, row)
        found[name] = delta
    return found


def best(deltas: Mapping[str, Tensor], ranks: Mapping[str, int]) -> dict[str, Tensor]:
    found = {}
    for name, delta in deltas.items():
        u, s, vt = torch.linalg.svd(delta, full_matrices=False)
        r = ranks[name]
        found[name] = (u[:, :r] * s[:r]) @ vt[:r]
    return found


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        worst = (found[name] - delta).abs().max() / delta.abs().max().clamp_min(1e-6)
        assert worst < 1e-5, (name, float(worst))


layers = st.lists(st.sampled_from(list(SHAPES)), min_size=1, unique=True)


@st.composite
def folders(draw: st.DrawFn, equal: bool = False) -> list[dict[str, Any]]:
    """What to write: layers, ranks, alphas, rsLoRA, shards."""
    found = []
    for seed in range(draw(st.integers(1, 4))):
        names = list(SHAPES) if equal else draw(layers)
        ranks = {n: 3 if equal else draw(st.integers(1, 8)) for n in names}
        found.append({
            "ranks": ranks, "seed": seed, "alpha": draw(st.sampled_from([0.5, 1, 8, 16])),
            "rslora": draw(st.booleans()), "shards": draw(st.sampled_from([0, 2])),
            "alphas": draw(st.dictionaries(st.sampled_from(names), st.sampled_from([2, 5.5]))),
        })  # fmt: skip
    return found


def made(place: Path, asked: Sequence[Mapping[str, Any]]) -> list[Written]:
    return [write(place / f"a{i}", **one) for i, one in enumerate(asked)]


def run(place: Path, written: Sequence[Written], **how: Any) -> tuple[dict[str, Tensor], list[str]]:
    out = place / "out"
    lines = combine(Asked(tuple(w.path for w in written), out, overwrite=True, **how))
    return as_peft_loads(out)[0], lines


def shares(count: int) -> tuple[str, list[float]]:
    found = [0.5 + i for i in range(count)]
    return ",".join(map(str, found)), found


def wanted(name: str, written: Sequence[Written], weights: Sequence[float]) -> dict[str, Tensor]:
    """What an algorithm makes of them, densely and in float64."""
    if name in ("replicate", "zero-pad"):
        return by_slot(written, weights, dilute=name == "zero-pad")
    mean = exact(written, weights)
    if name == "flora":
        return mean
    return best(mean, dict.fromkeys(SHAPES, max(max(w.ranks.values()) for w in written)))


@settings(max_examples=15, deadline=None)
@given(
    asked=folders(),
    name=st.sampled_from(["flora", "flexlora", "replicate", "zero-pad"]),
    rank=st.sampled_from([None, None, 1, 3]),
)
def test_random_folders_become_the_dense_reference(
    asked: list[dict[str, Any]], name: str, rank: int | None
) -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder)
        written = made(place, asked)
        text, weights = shares(len(written))
        found, _ = run(place, written, algorithm=name, weights=text, rank=rank)
        dense = wanted(name, written, weights)
        assert_same(found, dense if rank is None else best(dense, dict.fromkeys(SHAPES, rank)))


@settings(max_examples=3, deadline=None)
@given(asked=folders(equal=True))
def test_algorithms_for_equal_ranks(asked: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        place = Path(folder)
        written = made(place, asked)
        text, weights = shares(len(written))
        found, _ = run(place, written, algorithm="fedex-lora", weights=text)
        assert_same(found, exact(written, weights))
        found, _ = run(place, written, algorithm="fedit", weights=text)
        assert_same(found, by_slot(written, weights, dilute=False))


@pytest.mark.parametrize("name", able())
def test_one_adapter_and_equal_ones_come_back_under_every_algorithm(
    name: str, tmp_path: Path
) -> None:
    ranks = dict.fromkeys(SHAPES, 3)
    one = write(tmp_path / "one", ranks, seed=1, rslora=True)
    same = write(tmp_path / "same", ranks, seed=1, rslora=True)
    options = ("tau=1",) if name == "florist" else ()
    found, _ = run(tmp_path, [one, same], algorithm=name, weights="1,3", options=options)
    for layer, delta in one.deltas.items():
        torch.testing.assert_close(found[layer], delta, rtol=1e-5, atol=1e-5)


def test_all_that_need_rounds_are_refused_by_name_with_the_reason(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 2})
    assert {*able()} == {
        "fedit", "zero-pad", "replicate", "flexlora", "raflora", "flora", "florist", "fedex-lora",
        "lora-fair",
    }  # fmt: skip
    for name in {*algorithms.names()} - {*able()}:
        line = refused(tmp_path, [one], algorithm=name, weights="uniform")
        assert line == (
            f"{name} needs rounds: {algorithms.about(name).rounds}; these need none: "
            f"{', '.join(able())}"
        )


def test_heads_and_biases_are_the_mean_over_those_who_have_them(tmp_path: Path) -> None:
    dense = {"head.weight": (3, 4), "head.bias": (3,), f"{Q0}.bias": (12,)}
    config = {"modules_to_save": ["head"], "bias": "lora_only"}
    one = write(tmp_path / "a", {Q0: 2}, seed=1, dense=dense, config=config)
    two = write(tmp_path / "b", {Q0: 3, V0: 1}, seed=2, dense=dense, config=config)
    bare = write(tmp_path / "c", {V0: 4}, seed=3)
    _, lines = run(tmp_path, [one, two, bare], algorithm="flora", weights="1,3,4")
    _, model = as_peft_loads(tmp_path / "out")
    state = model.state_dict()
    for name, key in (
        ("head.weight", "head.modules_to_save.default.weight"),
        ("head.bias", "head.modules_to_save.default.bias"),
        (f"{Q0}.bias", f"{Q0}.base_layer.bias"),
    ):
        wanted = 0.25 * one.dense[name] + 0.75 * two.dense[name]
        torch.testing.assert_close(state[f"base_model.model.{key}"], wanted)
    assert f"2 of 2 layers are in 2 of 3 adapters ({Q0}, …): aggregated over those" in lines
    assert (
        "3 of 3 tensors kept whole are in 2 of 3 adapters (head.bias, …): aggregated over those"
        in lines
    )


def test_weights_by_data_read_what_was_written_beside_the_adapters(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 2}, seed=1, examples=100)
    two = write(tmp_path / "b", {Q0: 5}, seed=2, examples=300)
    found, lines = run(tmp_path, [one, two], algorithm="flora")
    assert_same(found, exact([one, two], [1, 3]))
    assert f"{one.path}: rank 2, weight 0.25" in lines
    facts = json.loads((tmp_path / "out/polyrank.json").read_text())
    assert facts["examples"] == 400  # so that results can be aggregated by data again
    three = write(tmp_path / "c", {Q0: 1}, seed=3)
    line = refused(tmp_path, [one, three], algorithm="flora")
    assert line == (
        f"{three.path}: polyrank.json does not say how many examples it was trained on; give them "
        "all with --examples 1200,300,…, or --weights uniform"
    )
    found, _ = run(tmp_path, [one, three], algorithm="flora", examples="5,15")
    assert_same(found, exact([one, three], [1, 3]))


def test_how_far_the_result_is_from_the_mean_of_the_updates_is_said(tmp_path: Path) -> None:
    two = [write(tmp_path / n, {Q0: r, V0: 2}, seed=r) for n, r in (("a", 2), ("b", 3))]
    _, lines = run(tmp_path, two, algorithm="flora", weights="1,3")
    assert "the weighted mean of the updates, exactly" in lines
    mean, found = exact(two, [1, 3]), by_slot(two, [1, 3], dilute=False)
    size = sum(d.square().sum() for d in mean.values())
    off = float((sum((found[n] - d).square().sum() for n, d in mean.items()) / size).sqrt())
    _, lines = run(tmp_path, two, algorithm="replicate", weights="1,3")
    assert f"the weighted mean of the updates but for {100 * off:.1f} %" in lines


def test_the_card_says_what_was_aggregated_and_the_energy_kept(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 4}, seed=1, examples=10)
    two = write(tmp_path / "b", {Q0: 4}, seed=2, examples=30)
    _, lines = run(tmp_path, [one, two], algorithm="flora", rank=3)
    s = torch.linalg.svdvals(exact([one, two], [1, 3])[Q0]).square()
    (line,) = [line for line in lines if "energy" in line]
    assert line == (
        f"rank 3 keeps {100 * float(s[:3].sum() / s.sum()):.2f} % of the energy (the update has "
        "rank 8)"
    )
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nbase_model: owner/model\nlibrary_name: peft\n")
    for words in ("`flora`", f"| {one.path} | 4 | 10 | 0.25 |", line):
        assert words in card


def refused(place: Path, written: Sequence[Written], **how: Any) -> str:
    """The one line that it is refused with; nothing is written."""
    out = place / "refused"
    with pytest.raises(PolyrankError) as caught:
        combine(Asked(tuple(w.path for w in written), out, **how))
    assert not out.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"weights": "1,2,3"}, "--weights '1,2,3': 3 numbers for 2 adapters"),
        ({"weights": "1,-2"}, "--weights '1,-2': -2 is not above 0; leave out an adapter"),
        ({"weights": "0,1"}, "--weights '0,1': 0 is not above 0"),
        ({"weights": "nan,1"}, "--weights 'nan,1': nan is not above 0"),
        ({"weights": "all"}, "--weights 'all': must be data, uniform or one number for each"),
        ({"examples": "5"}, "--examples '5': 1 numbers for 2 adapters"),
        ({"examples": "5,6", "weights": "uniform"}, "--examples belongs to --weights data"),
        ({"algorithm": "replicat"}, "no algorithm 'replicat'; did you mean 'replicate'?"),
        ({"algorithm": "fedit"}, "fedit averages equal ranks only: client "),
        ({"rank": 0}, "rank 0: an adapter has at least rank 1"),
        ({"rank": 11}, f"rank 11 is too large for layer '{Q0}' of shape (12, 10); the largest"),
        (
            {"algorithm": "replicate", "options": ("fil=mean",)},
            "--option fil: replicate has no such option; did you mean",
        ),
        (
            {"algorithm": "replicate", "options": ("fill=median",)},
            "--option fill: 'median': input should be 'weighted'",
        ),
        ({"options": ("fill",)}, "--option 'fill' is not key=value, such as tau=0.95"),
    ],
)
def test_what_cannot_be_done_is_one_line(how: dict[str, Any], line: str, tmp_path: Path) -> None:
    two = [write(tmp_path / n, {Q0: r}, examples=9) for n, r in (("a", 2), ("b", 3))]
    assert refused(tmp_path, two, **how).startswith(line)


def test_adapters_that_do_not_go_together_are_one_line(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 2})
    for key, value, line in (
        ("base_model_name_or_path", "other/model",
         f"has base {BASE!r}, but {tmp_path}/base_model_name_or_path has 'other/model'; give"),
        ("use_dora", True, "use_dora is True; DoRA scales every row"),
    ):  # fmt: skip
        other = write(tmp_path / key, {Q0: 2}, config={key: value})
        assert line in refused(tmp_path, [one, other], weights="uniform")
    found, _ = run(
        tmp_path, [one, write(tmp_path / "copy", {Q0: 2}, config={"base_model_name_or_path": "x"})],
        weights="uniform", base="owner/model",
    )  # fmt: skip
    assert_same(found, one.deltas)
    grown = write(tmp_path / "grown", {Q0: 2}, shapes={**SHAPES, Q0: (12, 8)})
    line = refused(tmp_path, [one, grown], weights="uniform")
    assert line.startswith(f"{Q0!r} has shape (12, 10) in {one.path}, but (12, 8) in {grown.path}")


def test_only_an_earlier_result_is_replaced(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 2}, examples=1)
    out = tmp_path / "out"
    asked = Asked((one.path,), out)
    combine(asked)
    with pytest.raises(PolyrankError, match="is not empty; --overwrite replaces an earlier result"):
        combine(asked)
    combine(asked._replace(overwrite=True, algorithm="flora"))
    assert json.loads((out / "polyrank.json").read_text())["algorithm"] == "flora"
    (out / "notes.txt").write_text("mine")
    with pytest.raises(PolyrankError, match=r"holds notes\.txt, which polyrank did not write"):
        combine(asked._replace(overwrite=True))
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(PolyrankError, match="is one of those that it is made of"):
        combine(asked._replace(out=one.path, overwrite=True))
    with pytest.raises(PolyrankError, match="is a file; name a folder"):
        combine(asked._replace(out=one.path / "adapter_config.json"))


FORMS: dict[str, dict[str, Any]] = {
    "plain": {"r": 2, "lora_alpha": 5},
    "rslora": {"r": 6, "lora_alpha": 5, "use_rslora": True},
    "patterns": {"r": 3, "rank_pattern": {"v_proj": 2, "^model.layers.1.self_attn.q_proj": 5},
                 "alpha_pattern": {"layers.0.self_attn.q_proj": 7}, "use_rslora": True},
    "head": {"r": 4, "modules_to_save": ["head"]},
    "biases": {"r": 3, "bias": "all", "modules_to_save": ["head"]},
    "a pattern of layers": {"r": 5, "target_modules": r".*\.(down_proj|q_proj)"},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_peft_wrote_becomes_one(form: str, tmp_path: Path) -> None:
    """Each form beside rsLoRA of another rank, as PEFT saves them and loads the result."""
    paths = []
    for i, name in enumerate((form, "rslora")):
        said = {"target_modules": ["q_proj", "v_proj"], "init_lora_weights": False, **FORMS[name]}
        torch.manual_seed(i)
        model = peft.get_peft_model(Tiny(), peft.LoraConfig(**said))
        model.save_pretrained(tmp_path / str(i))
        paths.append(tmp_path / str(i))
    one, two = (as_peft_loads(path)[0] for path in paths)
    combine(Asked(tuple(paths), tmp_path / "out", "flora", "1,3"))
    found, model = as_peft_loads(tmp_path / "out")
    mean = {n: 0.25 * one[n] + 0.75 * two[n] for n in one.keys() & two.keys()}
    assert_same(found, {**one, **two, **mean})
    if "modules_to_save" in FORMS[form]:
        head = as_peft_loads(paths[0])[1].base_model.model.head.modules_to_save["default"]
        now = model.base_model.model.head.modules_to_save["default"]
        torch.testing.assert_close(now.weight, head.weight)
