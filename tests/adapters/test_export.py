"""Exports of a run: an adapter of any rank, the exact update, a merged model; and their cards."""

import json
from collections.abc import Mapping
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

import polyrank
from polyrank.adapters.exporting import VLLM_RANKS, Asked, export, served
from polyrank.errors import PolyrankError
from polyrank.lora.peft import load
from tests.adapters.folders import SHAPES, Written, as_peft_loads, write
from tests.conftest import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
Q0, V0, Q1, DOWN = SHAPES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus: Path, gpt2_folder: Path) -> Path:
    """A finished run of fedhl, whose state is of full rank."""
    recipe = tiny(tmp_path_factory.mktemp("export"), corpus, gpt2_folder)
    return polyrank.run(polyrank.load_recipe(recipe, ["algorithm=fedhl", "rounds=2"])).folder


@pytest.fixture
def one(tmp_path: Path) -> Written:
    return write(tmp_path / "in", {Q0: 5, V0: 2, DOWN: 3}, rslora=True, examples=8)


def cut(deltas: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    found = {}
    for name, delta in deltas.items():
        u, s, vt = torch.linalg.svd(delta.double(), full_matrices=False)
        found[name] = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return found


def kept(deltas: Mapping[str, Tensor], rank: int) -> float:
    s = [torch.linalg.svdvals(d).square() for d in deltas.values()]
    return float(sum(x[:rank].sum() for x in s) / sum(x.sum() for x in s))


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        torch.testing.assert_close(found[name], delta, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_any_rank_is_the_best_approximation_and_says_what_it_keeps(
    rank: int, one: Written, tmp_path: Path
) -> None:
    lines = export(Asked(one.path, tmp_path / "out", rank=rank))
    assert_same(as_peft_loads(tmp_path / "out")[0], cut(one.deltas, rank))
    share = f"{100 * kept(one.deltas, rank):.2f} %"
    assert lines[0] == f"rank {rank} keeps {share} of the energy (the update has rank 5)"
    assert share in (tmp_path / "out/README.md").read_text()
    facts = json.loads((tmp_path / "out/polyrank.json").read_text())
    assert (facts["examples"], facts["files"]) == (
        8, ["README.md", "adapter_config.json", "adapter_model.safetensors"],
    )  # fmt: skip


def test_an_energy_gives_the_smallest_rank_that_keeps_it(one: Written, tmp_path: Path) -> None:
    shares = {r: kept(one.deltas, r) for r in range(1, 6)}
    for energy in (0.3, 0.8, 0.95, 1.0):
        rank = min(r for r, share in shares.items() if share >= energy - 1e-12)
        lines = export(Asked(one.path, tmp_path / f"{energy}", energy=energy))
        assert lines[0].startswith(f"rank {rank} keeps ")


def test_the_full_update_is_exact(one: Written, tmp_path: Path) -> None:
    lines = export(Asked(one.path, tmp_path / "out", full=True))
    assert lines[0] == "rank 5 keeps 100.00 % of the energy (the update has rank 5)"
    assert_same(as_peft_loads(tmp_path / "out")[0], one.deltas)


def test_vllm_gets_a_rank_that_it_takes_by_exact_padding(one: Written, tmp_path: Path) -> None:
    lines = export(Asked(one.path, tmp_path / "out", full=True, engine="vllm"))
    assert lines[0] == "rank 8 keeps 100.00 % of the energy (the update has rank 5)"
    assert_same(as_peft_loads(tmp_path / "out")[0], one.deltas)
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (8, 8, {})
    assert {f.rank for f in load(tmp_path / "out").factors.values()} == {8}
    ranks = [1, 8, 9, 33, 129, 257, 321, 512]
    assert [served(r) for r in ranks] == [8, 8, 16, 64, 256, 320, 512, 512]
    assert served(VLLM_RANKS[-1]) == 512
    with pytest.raises(PolyrankError, match=r"rank 513 is more than vLLM takes \(512\)"):
        served(513)


def test_a_run_goes_out_with_its_results(run: Path, tmp_path: Path) -> None:
    full = load(run / "adapter")
    lines = export(Asked(run, tmp_path / "out", rank=2))
    small = load(tmp_path / "out")
    wanted = cut({n: f.delta for n, f in full.factors.items()}, 2)
    assert_same({n: f.delta.double() for n, f in small.factors.items()}, wanted)
    assert small.dense.keys() == full.dense.keys()
    assert "of the energy" in lines[0]
    card = (tmp_path / "out/README.md").read_text()
    for words in (
        "`fedhl`",
        "| accuracy |",
        "| uploaded | 0.0",
        "| 8 | 1 |",
        "ranks:\n",
        "lr: 0.02",
    ):
        assert words in card
    facts = json.loads((run / "adapter/polyrank.json").read_text())
    assert facts == {"examples": 90}


def logits(net: torch.nn.Module) -> Tensor:
    ids = torch.arange(1, 15).repeat(2, 1) % 16
    with torch.no_grad():
        return net.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_the_merged_model_is_the_model_with_the_adapter(
    run: Path, gpt2_folder: Path, tmp_path: Path
) -> None:
    base = AutoModelForSequenceClassification.from_pretrained(gpt2_folder, num_labels=3)
    base.config.pad_token_id = 0
    wanted = logits(peft.PeftModel.from_pretrained(base, str(run / "adapter")))
    export(Asked(run, tmp_path / "of-run", merge=True))
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "of-run")
    assert found.config.id2label == {0: "animals", 1: "places", 2: "times"}
    found.config.pad_token_id = 0
    torch.testing.assert_close(logits(found), wanted, rtol=1e-4, atol=1e-5)
    alone = tmp_path / "alone"  # the adapter says enough by itself: base, task, head
    export(Asked(run / "adapter", alone, rank=16, merge=True))
    found = AutoModelForSequenceClassification.from_pretrained(alone)
    found.config.pad_token_id = 0
    torch.testing.assert_close(logits(found), wanted, rtol=1e-4, atol=1e-5)
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= {
        p.name for p in alone.iterdir()
    }
    export(Asked(run, alone, merge=True, overwrite=True))
    card = (alone / "README.md").read_text()
    assert "library_name" not in card
    assert "`fedhl`" in card


def refused(asked: Asked) -> str:
    with pytest.raises(PolyrankError) as caught:
        export(asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_exported_is_one_line(one: Written, tmp_path: Path) -> None:
    asked, out = Asked(one.path, tmp_path / "out"), tmp_path / "out"
    for change, line in (
        ({}, "say what to export: --rank 16, --energy 0.95, --full or --merge"),
        ({"rank": 2, "full": True}, "--rank and --full say different things; keep one of them"),
        ({"rank": 0}, "rank 0: an adapter has at least rank 1"),
        ({"rank": 7}, f"rank 7 is too large for layer {V0!r} of shape (6, 10); the largest rank"),
        ({"energy": 1.5}, "energy 1.5: a share above 0 and at most 1, such as 0.95"),
        ({"rank": 2, "engine": "vlm"}, "--for 'vlm' is unknown; did you mean 'vllm'?"),
        ({"merge": True, "engine": "vllm"}, "--for vllm is about adapters; a merged model"),
        ({"merge": True}, f"{one.path}: the base 'owner/model' is neither 'minilm', nor a folder"),
    ):
        assert refused(asked._replace(**change)).startswith(line)
        assert not out.exists()
    headed = write(tmp_path / "head", {Q0: 2}, dense={"head.bias": (3,)},
                   config={"modules_to_save": ["head"]})  # fmt: skip
    line = refused(Asked(headed.path, out, rank=1, engine="vllm"))
    assert line == (
        f"{headed.path} keeps head.bias whole, which vLLM does not serve beside an adapter; "
        "use --merge"
    )
    assert "adapter_config.json cannot be read" in refused(Asked(tmp_path / "no", out, rank=1))


def test_a_run_without_an_adapter_and_a_base_that_does_not_fit_are_one_line(
    run: Path, one: Written, gpt2_folder: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "recipe.yaml").write_text((run / "recipe.yaml").read_text())
    line = refused(Asked(begun, tmp_path / "out", rank=1))
    assert line == f"{begun} has no adapter yet; `polyrank resume {begun}` finishes the run"
    config = json.loads((one.path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(gpt2_folder)
    (one.path / "adapter_config.json").write_text(json.dumps(config))
    line = refused(Asked(one.path, tmp_path / "out", merge=True))
    assert line == (
        f"{one.path} does not fit {str(gpt2_folder)!r}: the model has no linear layer {Q0!r}"
    )
    assert not (tmp_path / "out").exists()
