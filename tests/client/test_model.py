"""The base model: what load makes of a name, and what folding and placing leave behind."""

import copy
import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from polyrank.client import placing
from polyrank.client.classifying import Classifying
from polyrank.client.model import Workbench, fold, load, template
from polyrank.client.placing import dense, head, place, take
from polyrank.client.precision import narrow
from polyrank.errors import RankError, RecipeError
from polyrank.lora.factor import Factor
from polyrank.lora.layer import attach
from polyrank.lora.targets import find
from polyrank.recipe.schema import Lora

CLASSES = ["sport", "world", "science"]
CONV = Lora(targets=("c_attn", "c_proj"))


@pytest.fixture
def gpt2(gpt2_folder: Path) -> Workbench:
    return load(str(gpt2_folder), CLASSES, CONV, seed=0)


@pytest.fixture(scope="module")
def gpt2_shared(gpt2_folder: Path) -> Workbench:
    """One that tests copy."""
    return load(str(gpt2_folder), CLASSES, CONV, seed=0)


def random_factors(bench: Workbench, rank: int, seed: int = 1) -> dict[str, Factor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: Factor(
            torch.randn(f.a.shape, generator=generator) / 4,
            torch.randn(f.b.shape, generator=generator) / 4,
            2.0,
        )
        for name, f in template(bench, rank).items()
    }


def logits(bench: Workbench) -> torch.Tensor:
    bench.net.eval()
    with torch.no_grad():
        ids = torch.arange(16).reshape(2, 8) % 15
        return bench.net(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_only_the_embedded_models_head_is_new_and_trainable():
    bench = load("minilm", CLASSES, Lora(), seed=0)
    assert bench.head == ("classifier.weight", "classifier.bias")
    assert len(bench.layers) == 12  # query and value in six layers
    assert bench.base == "sentence-transformers/all-MiniLM-L6-v2"
    assert bench.net.config.id2label == dict(enumerate(CLASSES))
    factors, heads = placing.trainable(bench, "ab")
    assert (factors, len(heads)) == ([], 2)  # nothing is placed yet
    place(bench, template(bench, 4), dense(bench))
    factors, heads = placing.trainable(bench, "b")
    assert [p.shape for p in factors] == [(384, 4)] * 12
    wanted = {id(p) for p in (*factors, *heads)}
    assert {id(p) for p in bench.net.parameters() if p.requires_grad} == wanted


def test_the_head_is_the_seeds_whatever_was_drawn_before(gpt2_folder: Path):
    first = head(load(str(gpt2_folder), CLASSES, CONV, seed=3))
    torch.randn(100)
    before = torch.get_rng_state()
    second = head(load(str(gpt2_folder), CLASSES, CONV, seed=3))
    assert torch.equal(before, torch.get_rng_state())
    other = head(load(str(gpt2_folder), CLASSES, CONV, seed=4))
    assert first.keys() == {"score.weight"}
    assert torch.equal(first["score.weight"], second["score.weight"])
    assert not torch.equal(first["score.weight"], other["score.weight"])


def test_a_head_that_is_not_trained_is_frozen_at_its_start(gpt2_folder: Path):
    bench = load(str(gpt2_folder), CLASSES, CONV.model_copy(update={"train_head": False}), seed=3)
    assert dense(bench) == {}
    assert head(bench).keys() == {"score.weight"}
    place(bench, template(bench, 2))
    factors, heads = placing.trainable(bench, "ab")
    assert (len(factors), heads) == (12, [])
    assert not bench.net.score.weight.requires_grad


def test_a_model_without_a_padding_token_gets_its_end_token(gpt2: Workbench):
    assert gpt2.tokenizer.pad_token == "<end>"
    assert gpt2.net.config.pad_token_id == 0
    alone = gpt2.tokenizer(["the cat sat"], return_tensors="pt", padding=True)
    both = gpt2.tokenizer(
        ["the cat sat", "the dog ran under the house"], return_tensors="pt", padding=True
    )
    gpt2.net.eval()
    with torch.no_grad():
        torch.testing.assert_close(gpt2.net(**alone).logits[0], gpt2.net(**both).logits[0])


def test_what_is_placed_is_what_is_taken(gpt2: Workbench):
    factors = random_factors(gpt2, 3)
    tensors = {"score.weight": torch.randn(3, 16)}
    place(gpt2, factors, tensors)
    taken, heads = take(gpt2)
    assert list(taken) == list(gpt2.layers)
    for name, f in factors.items():
        assert torch.equal(f.a, taken[name].a)
        assert torch.equal(f.b, taken[name].b)
        assert f.scale == taken[name].scale
    assert torch.equal(heads["score.weight"], tensors["score.weight"])


def test_another_scale_changes_no_logit(gpt2: Workbench):
    place(gpt2, random_factors(gpt2, 3))
    before = logits(gpt2)
    place(gpt2, take(gpt2)[0], scale=0.25)
    assert {f.scale for f in take(gpt2)[0].values()} == {0.25}
    torch.testing.assert_close(logits(gpt2), before)


def test_a_layer_without_factors_is_as_pretrained(gpt2: Workbench):
    pretrained = logits(gpt2)
    factors = random_factors(gpt2, 3)
    name = next(iter(factors))
    place(gpt2, {name: factors[name]})
    assert list(take(gpt2)[0]) == [name]
    assert not torch.equal(logits(gpt2), pretrained)
    place(gpt2, {})
    assert torch.equal(logits(gpt2), pretrained)


@pytest.mark.parametrize("which", ["gpt2_folder", "llama_folder"])
def test_folding_equals_placing_the_same_update(which: str, request: pytest.FixtureRequest):
    folder = request.getfixturevalue(which)
    targets = CONV.targets if which == "gpt2_folder" else ("q_proj", "v_proj", "down_proj")
    bench = load(str(folder), CLASSES, Lora(targets=targets), seed=0)
    place(bench, random_factors(bench, 4))
    adapted = logits(bench)
    deltas = {name: f.delta for name, f in take(bench)[0].items()}
    place(bench, {})
    fold(bench, deltas)
    torch.testing.assert_close(logits(bench), adapted, rtol=1e-4, atol=1e-5)


def test_a_fold_replaces_the_last_one_and_goes_without_a_trace(gpt2_folder: Path):
    bench = load(str(gpt2_folder), CLASSES, CONV, seed=0)
    file = gpt2_folder / "model.safetensors"
    on_disk = hashlib.sha256(file.read_bytes()).digest()
    pretrained = {name: t.clone() for name, t in bench.net.state_dict().items()}
    deltas = {name: f.delta for name, f in random_factors(bench, 4).items()}
    first, second, *_ = deltas
    fold(bench, deltas)
    fold(bench, {first: deltas[first]})
    module = bench.net.get_submodule(first)
    assert torch.equal(module.weight, pretrained[f"{first}.weight"] + deltas[first].T)
    assert torch.equal(bench.net.get_submodule(second).weight, pretrained[f"{second}.weight"])
    fold(bench, {})
    assert all(torch.equal(t, pretrained[name]) for name, t in bench.net.state_dict().items())
    assert bench.pristine == {}
    assert hashlib.sha256(file.read_bytes()).digest() == on_disk


def test_names_and_shapes_the_model_does_not_have_are_refused(gpt2: Workbench):
    name = next(iter(gpt2.layers))
    small = Factor(torch.zeros(1, 2), torch.zeros(3, 1))
    with pytest.raises(RankError, match=r"does not train 'h.0.c_atn'"):
        place(gpt2, {"h.0.c_atn": small})
    with pytest.raises(RankError, match=rf"'{name}' has shape \(48, 16\), not \(3, 2\)"):
        place(gpt2, {name: small})
    with pytest.raises(RankError, match=r"'score.weight' has shape \(3, 16\), not \(1, 16\)"):
        place(gpt2, {}, {"score.weight": torch.zeros(1, 16)})
    with pytest.raises(RankError, match=r"has shape \(48, 16\), not \(16, 48\)"):
        fold(gpt2, {name: torch.zeros(16, 48)})
    with pytest.raises(RecipeError, match="the largest rank that works is 16"):
        template(gpt2, 17)


def test_distilbert_at_rank_20_has_the_published_parameter_count():
    with torch.device("meta"):
        net = DistilBertForSequenceClassification(DistilBertConfig())
    modules = find(net, ["q_lin", "k_lin", "v_lin"], ["classifier", "pre_classifier"])
    layers = {name: attach(module) for name, module in modules.items()}
    bench = Workbench(net, None, layers, (), False, "distilbert", Classifying(()))
    place(bench, template(bench, 20))
    assert sum(p.numel() for p in placing.trainable(bench, "ab")[0]) == 552_960
    counts = [sum(f.a.numel() + f.b.numel() for f in template(bench, r).values()) for r in (5, 20)]
    assert 0.9 * counts[0] + 0.1 * counts[1] == 179_712  # 10 % of the clients at rank 20


def test_distilberts_whole_head_is_trained(tmp_path: Path, gpt2_folder: Path):
    config = DistilBertConfig(vocab_size=17, dim=16, hidden_dim=32, n_layers=1, n_heads=2)
    DistilBertForSequenceClassification(config).distilbert.save_pretrained(tmp_path)
    for file in gpt2_folder.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    bench = load(str(tmp_path), CLASSES, Lora(targets=("q_lin",)), seed=0)
    assert {name.split(".")[0] for name in bench.head} == {"pre_classifier", "classifier"}
    with pytest.raises(RecipeError, match="'pre_classifier' is the model's head"):
        load(str(tmp_path), CLASSES, Lora(targets=("pre_classifier",)), seed=0)


def test_a_finished_classifier_keeps_its_head_only_for_as_many_classes(
    gpt2: Workbench, tmp_path: Path
):
    gpt2.net.score.weight.data.fill_(7.0)
    plain = {k: t for k, t in gpt2.net.state_dict().items() if ".lora." not in k}
    gpt2.net.save_pretrained(tmp_path, state_dict=plain)
    gpt2.tokenizer.save_pretrained(tmp_path)
    same = load(str(tmp_path), CLASSES, CONV, seed=0)
    assert head(same)["score.weight"].eq(7.0).all()
    fewer = load(str(tmp_path), CLASSES[:2], CONV, seed=0)
    assert head(fewer)["score.weight"].shape == (2, 16)
    assert not head(fewer)["score.weight"].eq(7.0).any()
    assert same.head == fewer.head == ("score.weight",)


@given(
    st.lists(st.dictionaries(st.integers(0, 5), st.floats(-1e4, 1e4, width=32), max_size=6)),
    st.booleans(),
)
def test_any_sequence_of_folds_is_undone_in_place_bit_for_bit(
    gpt2_shared: Workbench, folds: list[dict[int, float]], narrowed: bool
):
    bench = copy.deepcopy(gpt2_shared)
    narrow(bench.net, bench.head, torch.bfloat16 if narrowed else torch.float32)
    bench.absorbs = not narrowed
    before = {n: t.clone() for n, t in bench.net.state_dict().items()}
    places = {n: p.data_ptr() for n, p in bench.net.named_parameters()}
    deltas = {n: f.delta for n, f in random_factors(bench, 2).items()}
    names = list(deltas)
    for some in folds:
        fold(bench, {names[i]: size * deltas[names[i]] for i, size in some.items()})
    fold(bench, {})
    assert all(torch.equal(t, before[n]) for n, t in bench.net.state_dict().items())
    assert {n: p.data_ptr() for n, p in bench.net.named_parameters()} == places
    assert bench.pristine == {}
    assert not any(layer.beside for layer in bench.layers.values())


def test_clients_share_the_bases_weights(gpt2: Workbench):
    places = {n: p.data_ptr() for n, p in gpt2.net.named_parameters() if ".lora." not in n}
    head = dense(gpt2)
    for ranks in ((1,), (2, 4, 4), (3, 1)):
        placing.place_all(gpt2, [placing.Model(random_factors(gpt2, r), head) for r in ranks])
        now = {n: p.data_ptr() for n, p in gpt2.net.named_parameters()}
        assert {n: now[n] for n in places} == places
