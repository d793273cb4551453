"""Small models, texts and a recipe that several rooms test with."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

TEXT = "<end> the a cat dog sat ran on under mat house and then slept all day long"
WORDS = TEXT.split()
CLASSES = ("animals", "places", "times")


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers (Conv1D) with random weights, no head, and no padding token."""
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=32, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).transformer.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder() -> Path:
    """A trained Llama of 260,032 parameters, where there is one."""
    folder = Path(__file__).parents[1] / "../shared/models/stories260K"
    if not folder.is_dir():
        pytest.skip("no trained small Llama beside the repository")
    return folder.resolve()


def texts(count: int) -> list[dict[str, str]]:
    """Sentences whose class shows in their words."""
    rows = []
    for i in range(count):
        kind = i % len(CLASSES)
        own = WORDS[2 + 5 * kind : 7 + 5 * kind]
        words = [own[(i * k) % len(own)] for k in (1, 2, 3)]
        rows.append({"text": " ".join([words[0], "the", *words[1:]]), "label": CLASSES[kind]})
    return rows


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl and test.jsonl."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, rows in (("train", texts(90)), ("test", texts(45))):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


@pytest.fixture
def recipe(tmp_path: Path, corpus: Path, gpt2_folder: Path) -> Path:
    """A recipe for four clients of ranks 1 to 8, three rounds, about a second."""
    return tiny(tmp_path, corpus, gpt2_folder)


def tiny(folder: Path, corpus: Path, gpt2_folder: Path) -> Path:
    """That recipe, in a folder where its runs go too."""
    path = folder / "tiny.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "tiny",
                "model": str(gpt2_folder),
                "data": {
                    "path": str(corpus),
                    "clients": 4,
                    "partition": "dirichlet(1.0)",
                    "max_length": 16,
                },
                "lora": {"targets": ["c_attn", "mlp.c_proj"], "ranks": [1, 2, 4, 8]},
                "algorithm": "replicate",
                "rounds": 3,
                "local": {"steps": 2, "batch": 8, "lr": 0.02},
                "output": {"dir": str(folder / "runs")},
            }
        )
    )
    return path
