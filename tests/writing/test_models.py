"""Language models by name: what their tokenizers lack is made good and said."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import polyrank
from polyrank.client.memory import profile
from polyrank.client.model import load
from polyrank.client.pretrained import open_writer, small_llama
from polyrank.data.examples import Corpus, Examples
from polyrank.errors import RecipeError, StorageError
from polyrank.experiment import pretraining
from polyrank.experiment.setup import prepare
from polyrank.experiment.trial import trial
from polyrank.recipe.schema import Lora
from tests.writing.conftest import made


@pytest.fixture
def copy(llama_folder: Path, tmp_path: Path) -> Path:
    """The trained Llama, to be changed."""
    return Path(shutil.copytree(llama_folder, tmp_path / "llama", copy_function=shutil.copyfile))


def without(folder: Path, *names: str) -> None:
    path = folder / "tokenizer_config.json"
    told = {k: v for k, v in json.loads(path.read_text()).items() if k not in names}
    path.write_text(json.dumps(told))


def test_a_tokenizer_without_a_padding_token_uses_the_end(copy: Path) -> None:
    assert not open_writer(str(copy), 0).notes
    without(copy, "pad_token")
    found = open_writer(str(copy), 0)
    assert found.tokenizer.pad_token == "</s>"
    assert found.notes == (
        f"the tokenizer of {str(copy)!r} has no padding token: batches are filled up with '</s>', "
        "which is masked there",
    )


def test_a_tokenizer_without_an_end_either_uses_any_token(copy: Path) -> None:
    without(copy, "pad_token", "eos_token")
    found = open_writer(str(copy), 0)
    assert found.tokenizer.pad_token_id == 0
    assert "filled up with '<unk>'" in found.notes[0]
    assert "no answer learns where to end" in found.notes[1]


def test_what_is_made_good_and_what_is_cut_is_said_and_recorded(
    stories: Path, llama_folder: Path, copy: Path
) -> None:
    without(copy, "pad_token")
    setup = prepare(made(stories, copy))
    lines = "\n".join(setup.notes)
    assert "no padding token" in lines
    assert "the tokenizer has no chat template: alpaca is used (data.template)" in lines
    cut = int((setup.train.whole > 48).sum())
    assert cut > 0
    assert f"{cut} of {len(setup.train)} training examples are longer than 48 tokens" in lines
    assert setup.source["training"]["cut"] == cut
    assert setup.source["template"] == "alpaca"


def test_the_notes_of_a_run_are_told(stories: Path, recipe: polyrank.Recipe) -> None:
    told: list[object] = []
    polyrank.run(recipe, watch=told.append)
    lines = [event.line for event in told if type(event).__name__ == "Warned"]
    assert any("no chat template" in line for line in lines)


def test_what_is_no_language_model_is_one_line(copy: Path, gpt2_folder: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 6}))
    with pytest.raises(
        RecipeError, match=r"model: .*layers\.5.* is missing from the model's files"
    ):
        open_writer(str(copy), 0)


def test_all_linear_layers_but_the_output(llama_folder: Path, gpt2_folder: Path) -> None:
    for folder, count in ((llama_folder, 5 * 7), (gpt2_folder, 2 * 4)):
        bench = load(str(folder), ("all",), Lora(targets=("all-linear",)), 0, "causal-lm")
        assert len(bench.layers) == count
        assert "lm_head" not in bench.layers
        assert not bench.head
    with pytest.raises(RecipeError, match="'lm_head' is the model's head, which is never adapted"):
        load(str(llama_folder), ("all",), Lora(targets=("lm_head",)), 0, "causal-lm")


def test_its_memory_is_measured(llama_folder: Path) -> None:
    bench = load(str(llama_folder), ("all",), Lora(targets=("all-linear",)), 0, "causal-lm")
    short, long = (profile(bench, 4, length) for length in (16, 64))
    assert long.fixed > short.fixed > sum(p.nbytes for p in bench.net.parameters())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data": {"format": "text"}}, "data.format: 'text' needs task: causal-lm"),
        ({"generation": {"metrics": ["rouge-l"]}}, "generation.metrics: .* needs task: causal-lm"),
        ({"evaluation": {"target": 1.5}}, "evaluation.target: 1.5 must be above 0 and below 1"),
        ({"task": "causal-lm", "data": {"label": "x"}}, "data.label: 'x' needs task: classif"),
        ({"task": "causal-lm", "cache": "block"}, "cache: 'block' needs task: classification"),
        ({"task": "causal-lm", "data": {"fields": {"q": "x"}}}, "names 'q', which is no part"),
    ],
)  # fmt: skip
def test_keys_of_another_task(tmp_path: Path, keys: dict, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(keys))
    with pytest.raises(RecipeError, match=message):
        polyrank.load_recipe(path)


def test_defaults_of_the_task(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("task: causal-lm\ndata: {clients: 3}\nlora: {targets: [q_proj]}\n")
    found = polyrank.load_recipe(path, ["evaluation.target=2.5"])
    assert (found.model, found.data.max_length, found.evaluation.batch) == (
        "docstrings-llama",
        256,
        16,
    )
    assert (found.data.clients, found.lora.targets) == (3, ("q_proj",))
    assert polyrank.load_recipe(path, ["lora.ranks=4", "data=mine"]).data.max_length == 256
    assert polyrank.Recipe(task="causal-lm").lora.targets == ("all-linear",)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["Return the sum of all numbers.", "Draw a line in the plot.", "A graph of nodes."]
    texts = tuple(f"{words[i % 3]} It takes {i} arguments." for i in range(60))
    labels = tuple(i % 3 for i in range(60))
    whole = Examples(texts, labels)
    corpus = Corpus(whole, whole.take(range(12)), ("python", "numpy", "networkx"), {"name": "x"})
    monkeypatch.setattr("polyrank.data.docstrings.corpus", lambda: corpus)
    return tmp_path


def test_the_embedded_model_is_made_kept_and_federated(cached: Path) -> None:
    with pytest.raises(RecipeError, match="not there yet: `polyrank pretrain` makes it"):
        open_writer("docstrings-llama", 0)
    told: list[float] = []
    folder, loss = pretraining.make(20, tell=lambda step, loss: told.append(loss))
    assert folder == small_llama()
    assert cached in folder.parents
    assert told[-1] < told[0] - 1
    facts = json.loads((folder / "pretraining.json").read_text())
    assert (facts["texts"], facts["libraries"], facts["loss"]) == (40, ["python", "numpy"], loss)
    with pytest.raises(StorageError, match="--overwrite makes it anew"):
        pretraining.make(1)
    net = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("<s>Return the sum", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert net(input_ids=ids, labels=ids).loss < told[0]
    assert tokenizer.decode(ids[0]) == "<s>Return the sum"
    same, _ = pretraining.make(20, overwrite=True)
    again = AutoModelForCausalLM.from_pretrained(same)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    recipe = polyrank.Recipe(
        task="causal-lm", name="mine", rounds=1, data={"clients": 2, "max_length": 32},
        lora={"targets": ["3.mlp.down_proj"], "ranks": [1, 2]}, local={"steps": 2, "lr": 1e-2},
        generation={"samples": 1, "tokens": 4}, output={"dir": str(cached / "runs")},
    )  # fmt: skip
    result = polyrank.run(recipe)
    assert result.records.value < result.records.first_value
    assert json.loads((result.adapter / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(folder)


def test_blocks_that_are_computed_again_change_memory_alone(
    stories: Path, llama_folder: Path
) -> None:
    own = made(stories, llama_folder).model_dump()
    lora = {"targets": ["all-linear"], "ranks": 2, "dropout": 0.1}
    own |= {"rounds": 1, "lora": lora, "data": own["data"] | {"clients": 2}}
    found, sizes = [], []
    for again in (False, True):
        recipe = polyrank.Recipe.model_validate(own | {"engine": {"checkpointing": again}})
        setup = prepare(recipe)
        found.append(trial(recipe, "a", setup).value)
        sizes.append(profile(setup.bench, 8, 256))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert sizes[1].fixed - sizes[1].base < 0.7 * (sizes[0].fixed - sizes[0].base)
