"""What a language model writes: greedy answers to prompts, and the likeliest of some answers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GenerationConfig

from polyrank.client.model import Workbench, logits, longest_text
from polyrank.data.batches import Tokens, in_order
from polyrank.data.examples import Dialogue
from polyrank.data.spoken import marked
from polyrank.data.templates import Template, asked


def question(dialogue: Dialogue) -> tuple[Dialogue, str]:
    """A dialogue up to its last answer, with nothing in its place, and that answer.

    Of a text that goes on from nothing, the first half of its words is the question.
    """
    role, text = dialogue[-1]
    before: Dialogue = dialogue[:-1]
    if not before:
        words = text.split(" ")
        half = len(words) // 2
        before, text = (("prompt", " ".join(words[:half])),), " ".join(["", *words[half:]])
    return (*before, (role, "")), text


@torch.inference_mode()
def answers(bench: Workbench, prompts: Sequence[str], most: int, batch: int) -> list[str]:
    """The model's likeliest next token, again and again, after each prompt.

    Args:
        bench: with the model whose answers are wanted, alone.
        prompts: texts as the template renders them; of one that is too long the end is read.
        most: tokens of an answer, at most.
        batch: prompts at once.
    """
    bench.net.eval()
    longest = longest_text(bench)
    room = None if longest is None else max(1, longest - most)
    ids = [row[-room:] if room else row for row in _ids(bench, prompts)]
    found: list[str] = []
    for first in range(0, len(ids), batch):
        rows = ids[first : first + batch]
        width = max(map(len, rows))
        some = torch.full((len(rows), width), int(bench.tokenizer.pad_token_id))
        mask = torch.zeros_like(some)
        for i, row in enumerate(rows):  # on the left, so that all answers begin in one place
            some[i, width - len(row) :], mask[i, width - len(row) :] = torch.tensor(row), 1
        told = bench.net.generate(
            input_ids=some, attention_mask=mask, generation_config=_greedy(bench, most)
        )
        found += bench.tokenizer.batch_decode(told[:, width:], skip_special_tokens=True)
    return found


@torch.inference_mode()
def likelihoods(
    bench: Workbench,
    template: Template,
    questions: Sequence[Dialogue],
    choices: Sequence[str],
    batch: int,
) -> Float[Tensor, "questions choices"]:
    """Σ_t ln p(x_t | question, x_<t) over the tokens of each choice.

    Args:
        bench: with the model that is asked, alone.
        template: how questions are written.
        questions: each without its answer.
        choices: beginnings of an answer.
        batch: texts at once.
    """
    bench.net.eval()
    prompts = [asked(bench.tokenizer, template, q) for q in questions]
    tokens = _chosen(bench, prompts, choices)
    found = torch.zeros(len(tokens))
    for part in in_order(tokens, batch):
        losses, _ = bench.objective.losses(logits(bench, tokens, part), part)
        found[part.indices] = -losses
    return found.view(len(questions), len(choices))


def _chosen(bench: Workbench, prompts: Sequence[str], choices: Sequence[str]) -> Tokens:
    """Every prompt with every choice, whose tokens are marked."""
    texts = [p + choice for p in prompts for choice in choices]
    spans = [(len(p), len(p) + len(choice)) for p in prompts for choice in choices]
    told = bench.tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    longest = longest_text(bench) or 0
    rows = [row[-longest:] for row in told["input_ids"]]
    marks = [
        marked(offsets, [span])[-longest:]
        for offsets, span in zip(told["offset_mapping"], spans, strict=True)
    ]
    return Tokens(
        torch.tensor([id for row in rows for id in row], dtype=torch.int32),
        torch.zeros(len(rows), dtype=torch.int64),
        torch.tensor([0, *map(len, rows)]).cumsum(0),
        int(bench.tokenizer.pad_token_id),
        torch.tensor([mark for row in marks for mark in row]),
    )


def _ids(bench: Workbench, texts: Sequence[str]) -> list[list[int]]:
    told = bench.tokenizer(list(texts), add_special_tokens=False, verbose=False)
    found: list[list[int]] = told["input_ids"]
    empty = [bench.tokenizer.bos_token_id or bench.tokenizer.pad_token_id]
    return [row or empty for row in found]


def _greedy(bench: Workbench, most: int) -> GenerationConfig:
    own = bench.net.generation_config.eos_token_id
    end: int | list[int] | None = bench.tokenizer.eos_token_id if own is None else own
    return GenerationConfig(
        max_new_tokens=most, do_sample=False, use_cache=True, eos_token_id=end,
        pad_token_id=int(bench.tokenizer.pad_token_id),
    )  # fmt: skip
