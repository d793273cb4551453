"""A small Llama from scratch: its tokenizer, and steps over all of its weights.

lr(t) = lr · min(1, t/w) · (1 + cos(π t/T))/2      over T steps, the first w of them to warm up
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from polyrank.client.writing import Writing, chosen
from polyrank.data.batches import Tokens, batches, in_order
from polyrank.seeds import derive, seeded

WORDS = 1024  # tokens in the vocabulary
LENGTH = 256  # tokens of the longest text
WARM_UP = 0.05
START, END = "<s>", "</s>"


def tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte pairs that occur most in these texts (no text is outside of them)."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    how = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=[START, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    own.train_from_iterator(texts, how)
    return PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token=START, eos_token=END, pad_token=END, model_max_length=LENGTH
    )


def untrained(seed: int) -> Any:
    """A Llama of about half a million parameters, drawn by seed."""
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=96, intermediate_size=256, num_hidden_layers=4,
        num_attention_heads=6, num_key_value_heads=6, max_position_embeddings=LENGTH,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    with seeded(seed, "pretraining"):
        return LlamaForCausalLM(config)


def pretrain(
    net: Any, tokens: Tokens, steps: int, batch: int, lr: float, seed: int,
    tell: Callable[[int, float], None],
) -> None:  # fmt: skip
    """Train all weights on batches of these texts.

    Args:
        net: the model.
        tokens: texts.
        steps: of the optimizer.
        batch: texts in each.
        lr: the highest learning rate.
        seed: decides the order of the texts.
        tell: hears of each step and its loss.
    """
    optimizer = AdamW(net.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    draw = derive(seed, "pretraining", "batches")
    ahead = (one for _ in iter(int, 1) for one in batches(tokens, range(len(tokens)), batch, draw))
    net.train()
    for step, part in zip(range(1, steps + 1), ahead, strict=False):
        share = min(1.0, step / (WARM_UP * steps)) * (1 + math.cos(math.pi * step / steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * share
        out = net(input_ids=part.input_ids, attention_mask=part.attention_mask, use_cache=False)
        losses, counts = Writing(()).losses(chosen(out.logits, part), part)
        mean = losses.sum() / counts.sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(mean)
        clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        tell(step, mean.item())


@torch.inference_mode()
def loss(net: Any, tokens: Tokens, batch: int) -> float:
    """The loss per token on these texts."""
    net.eval()
    total, count = 0.0, 0.0
    for part in in_order(tokens, batch):
        out = net(input_ids=part.input_ids, attention_mask=part.attention_mask, use_cache=False)
        losses, counts = Writing(()).losses(chosen(out.logits, part), part)
        total, count = total + float(losses.sum()), count + float(counts.sum())
    return total / count
