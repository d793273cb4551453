"""Small models that several rooms test with."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

TEXT = "<end> the a cat dog sat ran on under mat house and then slept all day long"
WORDS = TEXT.split()


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
