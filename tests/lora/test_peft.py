"""Adapter folders: PEFT loads what is saved as the same function, and nothing odd comes in."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyrank.client.model import Workbench, load, template
from polyrank.client.placing import head, place
from polyrank.client.pretrained import open_model
from polyrank.errors import StorageError
from polyrank.lora import peft as adapters
from polyrank.lora.factor import Adapter, Factor
from polyrank.lora.layer import transposed
from polyrank.recipe.schema import Lora

# PEFT asks a model for it under the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
CLASSES = ["sport", "world", "science"]
TARGETS = {
    "minilm": ("query", "value", "attention.output.dense"),
    "gpt2_folder": ("c_attn", "c_proj"),
    "llama_folder": ("q_proj", "v_proj"),
}
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
QUERY = "bert.encoder.layer.0.attention.self.query"


def random_adapter(shapes: dict[str, tuple[int, int]], heads: dict[str, Tensor]) -> Adapter:
    """Ranks 1 to 5 in turn, one scale."""
    generator = torch.Generator().manual_seed(11)
    factors = {}
    for i, (name, (out, in_)) in enumerate(shapes.items()):
        a = torch.randn(1 + i % 5, in_, generator=generator) / 4
        b = torch.randn(out, 1 + i % 5, generator=generator) / 4
        factors[name] = Factor(a, b, 1.5)
    return Adapter(
        factors, {k: torch.randn(t.shape, generator=generator) for k, t in heads.items()}
    )


def bench_and_base(name: str, request: pytest.FixtureRequest) -> tuple[Workbench, nn.Module]:
    """The same model twice: with our places for factors, and as PEFT would be given it."""
    model = name if name == "minilm" else str(request.getfixturevalue(name))
    bench = load(model, CLASSES, Lora(targets=TARGETS[name]), seed=0)
    return bench, open_model(model, CLASSES, seed=0).net


def logits(net: nn.Module) -> Tensor:
    ids = torch.arange(1, 15).repeat(2, 1)
    with torch.no_grad():
        return net.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("name", TARGETS)
def test_peft_loads_mixed_ranks_as_the_same_function(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
):
    bench, base = bench_and_base(name, request)
    shapes = {n: f.shape for n, f in template(bench, 1).items()}
    adapter = random_adapter(shapes, head(bench))
    conv = any(transposed(bench.net.get_submodule(n)) for n in shapes)
    adapters.save(tmp_path / "adapter", adapter, bench.base, conv)
    before = logits(base)
    theirs = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    place(bench, adapter.factors, adapter.dense)
    assert not torch.allclose(logits(theirs), before)
    torch.testing.assert_close(logits(theirs), logits(bench.net), rtol=5e-6, atol=1e-6)
    merged = theirs.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(bench.net), rtol=1e-4, atol=1e-4)


def test_what_peft_saves_is_read_as_the_same_function(
    request: pytest.FixtureRequest, tmp_path: Path
):
    bench, base = bench_and_base("minilm", request)
    torch.manual_seed(1)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=["query", "value"],
        rank_pattern={"value": 2, r"layer\.[12]\..*\.query": 3}, alpha_pattern={"0.*.query": 5},
        init_lora_weights=False,
    )  # fmt: skip
    theirs = peft.get_peft_model(base, config)
    theirs.save_pretrained(tmp_path)
    adapter = adapters.load(tmp_path)
    ranks = [f.rank for n, f in sorted(adapter.factors.items()) if n.endswith("query")]
    assert ranks == [4, 3, 3, 4, 4, 4]
    assert adapter.factors[QUERY].scale == 5 / 4
    place(bench, adapter.factors, adapter.dense)
    torch.testing.assert_close(logits(theirs), logits(bench.net), rtol=5e-6, atol=1e-6)


def test_rslora_from_peft_has_alpha_over_the_root_of_the_rank(
    request: pytest.FixtureRequest, tmp_path: Path
):
    bench, base = bench_and_base("minilm", request)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=3, lora_alpha=6, use_rslora=True, target_modules=r".*\.query",
        init_lora_weights=False,
    )  # fmt: skip
    theirs = peft.get_peft_model(base, config)
    theirs.save_pretrained(tmp_path)
    adapter = adapters.load(tmp_path)
    assert {f.scale for f in adapter.factors.values()} == {6 / 3**0.5}
    place(bench, adapter.factors, adapter.dense)
    torch.testing.assert_close(logits(theirs), logits(bench.net), rtol=5e-6, atol=1e-6)


# The short names end the longer ones, which PEFT's patterns could mix up.
SHAPES = {"query": (4, 3), QUERY: (6, 5), "value.query": (6, 5), QUERY.replace("0", "1"): (6, 5)}
HEADS = {
    "classifier.dense.weight": torch.zeros(3, 4), "classifier.out_proj.bias": torch.zeros(2),
    "bert.pooler.dense.weight": torch.zeros(2, 2),
}  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    adapters.save(tmp_path / "adapter", random_adapter(SHAPES, HEADS), "owner/model")
    return tmp_path / "adapter"


def same(left: Adapter, right: Adapter) -> bool:
    return (
        left.factors.keys() == right.factors.keys()
        and left.dense.keys() == right.dense.keys()
        and all(torch.equal(t, right.dense[n]) for n, t in left.dense.items())
        and all(
            torch.equal(f.a, right.factors[n].a)
            and torch.equal(f.b, right.factors[n].b)
            and f.scale == right.factors[n].scale
            for n, f in left.factors.items()
        )
    )


def test_saving_and_loading_changes_nothing(saved: Path):
    assert same(adapters.load(saved), random_adapter(SHAPES, HEADS))
    config = json.loads((saved / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "owner/model"
    assert config["modules_to_save"] == ["bert.pooler.dense", "classifier"]
    assert config["r"] == 4  # the largest, which is all that some servers read
    assert config["lora_alpha"] == 6


@given(rank=st.integers(1, 512), alpha=st.integers(1, 2048))
def test_alpha_over_r_comes_back_exactly(rank: int, alpha: int):
    factor = Factor(torch.zeros(rank, 1), torch.zeros(1, rank), alpha / rank)
    config = adapters._config({"query": factor}, (), adapters.Told("m"))
    assert config["lora_alpha"] / rank == alpha / rank


def test_different_scales_become_one_and_the_update_stays(tmp_path: Path):
    plain = random_adapter(SHAPES, {})
    scales = dict(zip(SHAPES, (0.5, 3.0, 0.1, 0.5), strict=True))
    mixed = {n: replace(f, scale=scales[n]) for n, f in plain.factors.items()}
    adapters.save(tmp_path / "adapter", Adapter(mixed), "m")
    back = adapters.load(tmp_path / "adapter").factors
    assert {f.scale for f in back.values()} == {0.5}
    for name, f in mixed.items():
        torch.testing.assert_close(back[name].delta, f.delta)


def test_layers_of_rank_0_are_left_out_and_nothing_is_not_saved(tmp_path: Path):
    empty = Factor(torch.zeros(0, 5), torch.zeros(6, 0))
    adapter = random_adapter({"query": (4, 3)}, {})
    adapters.save(tmp_path / "a", Adapter({"value": empty, **adapter.factors}), "m")
    assert adapters.load(tmp_path / "a").factors.keys() == {"query"}
    with pytest.raises(StorageError, match="adapter is empty"):
        adapters.save(tmp_path / "b", Adapter({"value": empty}), "m")
    assert not (tmp_path / "b").exists()


def test_the_same_adapter_gives_the_same_bytes_in_any_order(saved: Path, tmp_path: Path):
    adapter = random_adapter(SHAPES, HEADS)
    turned = Adapter(dict(reversed(adapter.factors.items())), dict(reversed(adapter.dense.items())))
    adapters.save(tmp_path / "again", turned, "owner/model")
    for file in (CONFIG, WEIGHTS):
        assert (saved / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_an_adapter_is_replaced_whole_or_not_at_all(saved: Path, monkeypatch: pytest.MonkeyPatch):
    new = random_adapter({"value": (3, 2)}, {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"cannot write .*: no space left"):
            adapters.save(saved, new, "m")
    assert same(adapters.load(saved), random_adapter(SHAPES, HEADS))
    adapters.save(saved, new, "m")
    assert same(adapters.load(saved), new)
    assert [p.name for p in saved.parent.iterdir()] == ["adapter"]
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds other files"):
        adapters.save(saved, new, "m")
    assert (saved / "notes.txt").read_text() == "mine"


def refused(folder: Path) -> str:
    with pytest.raises(StorageError) as caught:
        adapters.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "F")


A, B = (f"base_model.model.{QUERY}.lora_{which}.weight" for which in "AB")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({B: None}, f"F/{WEIGHTS}: layer '{QUERY}' has no lora_B tensor"),
        ({A: None}, f"F/{WEIGHTS}: layer '{QUERY}' has no lora_A tensor"),
        ({A: torch.zeros(3, 5)},
         f"F/{WEIGHTS}: layer '{QUERY}' has a lora_A of shape (3, 5) and a lora_B of (6, 2)"),
        ({A: torch.zeros(3, 5), B: torch.zeros(6, 3)},
         f"F/{WEIGHTS}: layer '{QUERY}' has rank 3, but {CONFIG} says 2"),
        ({"model.x.lora_A.weight": torch.zeros(1, 1)},
         f"F/{WEIGHTS}: tensor 'model.x.lora_A.weight' does not begin with 'base_model.model.'"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(
    saved: Path, changes: dict[str, Tensor | None], message: str
):
    tensors = load_file(saved / WEIGHTS) | changes
    save_file({k: t for k, t in tensors.items() if t is not None}, saved / WEIGHTS)
    assert refused(saved) == message


@pytest.mark.parametrize(
    "key",
    [
        f"{QUERY}.lora_a.weight",
        f"{QUERY}.lora_magnitude_vector",
        "bert.embeddings.word_embeddings.lora_embedding_A",
        "clasifier.weight",
    ],
)
def test_tensors_that_peft_ignores_are_named(saved: Path, key: str):
    tensors = load_file(saved / WEIGHTS)
    save_file({**tensors, f"base_model.model.{key}": torch.zeros(1, 5)}, saved / WEIGHTS)
    assert f"F/{WEIGHTS}: tensor 'base_model.model.{key}' is neither lora_A" in refused(saved)


def test_a_misspelt_layer_is_named(saved: Path):
    renamed = {
        k.replace("self.query", "self.qeury"): t for k, t in load_file(saved / WEIGHTS).items()
    }
    save_file(renamed, saved / WEIGHTS)
    assert "qeury' is not one of target_modules in adapter_config.json" in refused(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora is True; DoRA scales every row of W0 + s·BA to a norm"),
        ({"lora_bias": True}, "lora_bias is True; B has a bias"),
        ({"bias": "some"}, "bias is 'some'; only plain LoRA can be read"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'; it was trained on a base"),
        ({"lora_alhpa": 4}, "unknown key 'lora_alhpa'; did you mean 'lora_alpha'?"),
        ({"r": "4"}, "r is '4'; only plain LoRA can be read"),
        ({"rank_pattern": {"query": None}}, "rank_pattern is {'query': None}; only plain LoRA"),
        ({"peft_type": "IA3"}, "does not describe a LoRA adapter"),
    ],
)
def test_configurations_that_say_more_than_lora_are_refused(
    saved: Path, change: dict[str, Any], message: str
):
    config = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps(config | change))
    assert refused(saved).startswith(f"F/{CONFIG}")
    assert message in refused(saved)


def test_missing_and_broken_files_are_one_line(saved: Path, tmp_path: Path):
    assert "cannot be read" in refused(tmp_path / "nowhere")
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:200])
    assert refused(saved).startswith(f"F/{WEIGHTS} cannot be read")
    (saved / WEIGHTS).rename(saved / "adapter_model.bin")
    assert refused(saved) == (
        "F/adapter_model.bin is a pickle, which can run code and is never opened; if you trust it, "
        "load it with PEFT and save_pretrained writes safetensors"
    )
    (saved / "adapter_model.bin").unlink()
    assert refused(saved).startswith(f"F/{WEIGHTS} cannot be read")
    (saved / CONFIG).write_text("[]")
    assert refused(saved).startswith(f"F/{CONFIG}")
