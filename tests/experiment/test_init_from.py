"""Runs that begin with an adapter: exactly there under every algorithm, and its sum comes out."""

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

import polyrank
from polyrank.adapters.exporting import Asked, export
from polyrank.algorithms import about, names
from polyrank.client.score import Score
from polyrank.errors import RecipeError, StorageError
from polyrank.experiment import measuring, running
from polyrank.experiment.events import Event, RoundDone
from polyrank.experiment.setup import Setup, prepare
from polyrank.lora.factor import Adapter, Factor
from polyrank.lora.peft import Told, contents, load
from polyrank.server.loop import train
from tests.conftest import CLASSES, tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
# The first and the last are layers that the recipe does not train.
LAYERS = {
    "transformer.h.0.attn.c_proj": (16, 16), "transformer.h.0.attn.c_attn": (48, 16),
    "transformer.h.1.mlp.c_proj": (16, 64), "transformer.h.1.mlp.c_fc": (64, 16),
}  # fmt: skip
HEAD = "score.weight"


def written(folder: Path, base: Path, rank: int = 3, **change: Any) -> Path:
    """An adapter of the tiny GPT-2 with a head, of ranks above some clients' and below others'."""
    draw = torch.Generator().manual_seed(7)
    factors = {
        n: Factor(torch.randn(rank + i, width, generator=draw) / 8,
                  torch.randn(out, rank + i, generator=draw) / 8, 1.5)
        for i, (n, (out, width)) in enumerate(LAYERS.items())
    }  # fmt: skip
    dense = {HEAD: torch.randn(3, 16, generator=draw)}
    folder.mkdir()
    for name, data in contents(Adapter(factors, dense), Told(str(base), transposed=True)).items():
        (folder / name).write_bytes(data)
    config = json.loads((folder / "adapter_config.json").read_text()) | change
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, gpt2_folder: Path) -> Path:
    return written(tmp_path_factory.mktemp("start") / "adapter", gpt2_folder)


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Path:
    """A model whose pretrained weights are the base's with the adapter in them."""
    folder = tmp_path_factory.mktemp("merged") / "model"
    export(Asked(start, folder, merge=True))
    return folder


def asked(recipe: Path, algorithm: str, **keys: object) -> polyrank.Recipe:
    equal = [] if about(algorithm).mixed else ["lora.ranks=4"]
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in keys.items()]
    return polyrank.load_recipe(recipe, [f"algorithm={algorithm}", "rounds=1", *equal, *overrides])


@pytest.fixture(scope="module")
def setups(
    start: Path, merged: Path, tmp_path_factory: pytest.TempPathFactory, corpus: Path,
    gpt2_folder: Path,
) -> list[tuple[dict[str, Path], Setup]]:  # fmt: skip
    """The model and the adapter to begin with; and the model that has the adapter in it."""
    recipe = tiny(tmp_path_factory.mktemp("setups"), corpus, gpt2_folder)
    both: list[dict[str, Path]] = [{"lora__init_from": start}, {"model": merged}]
    return [(keys, prepare(asked(recipe, "replicate", **keys))) for keys in both]


def one_round(recipe: polyrank.Recipe, setup: Setup) -> tuple[list[Score | None], Adapter]:
    """Scores before and after it, and what comes out; in memory."""
    run = running.begin(recipe, setup, None)
    scores = [measuring.evaluate(run)]
    for done in train(run.plan, run.exchange, run.federation):
        run.accept(done)
    return [*scores, measuring.evaluate(run)], running.result(run)


def deltas(adapter: Adapter) -> dict[str, Tensor]:
    return {n: f.delta.double() for n, f in adapter.factors.items()}


@pytest.mark.parametrize("name", names())
def test_every_algorithm_begins_where_the_adapter_ended(
    name: str, recipe: Path, start: Path, setups: list[tuple[dict[str, Path], Setup]]
) -> None:
    """The same run on a base that has the adapter in its weights learns the same."""
    (scores, got), (wanted, learned) = (
        one_round(asked(recipe, name, **keys), setup) for keys, setup in setups
    )
    for mine, theirs in zip(scores, wanted, strict=True):
        assert mine is not None
        assert theirs is not None
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-5)
    total = deltas(load(start))
    for n, delta in deltas(learned).items():
        total[n] = total.get(n, 0) + delta
    assert deltas(got).keys() == total.keys()
    for n, delta in deltas(got).items():
        torch.testing.assert_close(delta, total[n], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.dense[HEAD], learned.dense[HEAD])
    if name != "fedsa-lora":  # whose server holds no B
        assert any(d.any() for d in deltas(learned).values())


def test_the_result_is_an_adapter_of_the_original_base(
    recipe: Path, start: Path, merged: Path, gpt2_folder: Path
) -> None:
    mine = polyrank.run(asked(recipe, "replicate", lora__init_from=start, name="mine"))
    ids = torch.arange(1, 15).repeat(2, 1) % 16

    def logits(model: Path, adapter: Path) -> Tensor:
        net = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(CLASSES))
        net.config.pad_token_id = 0
        loaded = peft.PeftModel.from_pretrained(net, str(adapter)).eval()
        with torch.no_grad():
            return loaded(input_ids=ids, attention_mask=torch.ones_like(ids)).logits

    theirs = polyrank.run(asked(recipe, "replicate", name="theirs", model=merged))
    wanted = logits(merged, theirs.adapter)
    torch.testing.assert_close(logits(gpt2_folder, mine.adapter), wanted, rtol=1e-4, atol=1e-5)
    recorded = mine.records.run["init_from"]
    assert (recorded["path"], recorded["ranks"]) == (str(start), [3, 4, 5, 6])


def test_a_run_goes_on_only_with_the_adapter_that_it_began_with(
    recipe: Path, start: Path, gpt2_folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(start, own)
    keys = {"lora.init_from": own, "name": "part", "rounds": 2}
    overrides = [f"{key}={value}" for key, value in keys.items()]

    def stop(event: Event) -> None:
        if isinstance(event, RoundDone) and event.record["round"] == 1:
            raise KeyboardInterrupt

    part = polyrank.load_recipe(recipe, overrides)
    with pytest.raises(KeyboardInterrupt):
        polyrank.run(part, watch=stop)
    shutil.rmtree(own)
    written(own, gpt2_folder, rank=2)
    with pytest.raises(StorageError, match=r"has changed since .* began \(init_from\); restore it"):
        polyrank.resume(part.output.dir / "part")
    shutil.rmtree(own)
    shutil.copytree(start, own)
    polyrank.resume(part.output.dir / "part")
    whole = polyrank.run(polyrank.load_recipe(recipe, [*overrides, "name=whole"]))
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        there = part.output.dir / "part/adapter" / file
        assert (whole.adapter / file).read_bytes() == there.read_bytes()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"use_dora": True}, "use_dora is True; DoRA scales every row"),
        ({"base_model_name_or_path": "gpt2"}, "adapts 'gpt2', not '"),
        ({"bias": "all"}, "trains biases (all), with which no run can begin"),
    ],
)
def test_an_adapter_that_cannot_begin_a_run_is_one_line(
    change: dict[str, Any], line: str, recipe: Path, gpt2_folder: Path, tmp_path: Path
) -> None:
    folder = written(tmp_path / "a", gpt2_folder, **change)
    with pytest.raises(RecipeError) as caught:
        polyrank.run(asked(recipe, "replicate", lora__init_from=folder))
    assert str(caught.value).startswith("lora.init_from: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (recipe.parent / "runs").exists()


def test_an_adapter_that_does_not_fit_the_model_is_one_line(
    recipe: Path, gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layers, head, line in (
        (
            {"transformer.h.7.mlp.c_fc": (64, 16)},
            HEAD,
            "the model has no linear layer 'transformer.",
        ),
        ({"transformer.wte": (16, 16)}, HEAD, "the model has no linear layer 'transformer.wte'"),
        ({"transformer.h.0.mlp.c_fc": (16, 64)}, HEAD, "has shape (16, 64), but (64, 16) in the"),
        (LAYERS, "score.bias", "the model has no parameter 'score.bias'"),
        (LAYERS, "score.weight", "'score.weight' has shape (3, 16), but (2, 16) in the model"),
    ):
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        monkeypatch.setitem(globals(), "LAYERS", layers)
        monkeypatch.setitem(globals(), "HEAD", head)
        folder = written(tmp_path / "a", gpt2_folder)
        keys = {"lora__init_from": folder}
        if "(2, 16)" in line:
            keys["data__path"] = two_classes(tmp_path / "two")
        with pytest.raises(RecipeError) as caught:
            polyrank.run(asked(recipe, "replicate", **keys))
        assert line in str(caught.value)
        assert not (recipe.parent / "runs").exists()


def two_classes(folder: Path) -> Path:
    folder.mkdir()
    rows = [{"text": f"the cat sat {w}", "label": w} for w in ("on", "under") for _ in range(20)]
    for name in ("train", "test"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    return folder
