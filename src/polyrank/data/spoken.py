"""Dialogues as token ids, with a mark on each token that is to be learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from polyrank.data.batches import Tokens
from polyrank.data.examples import Examples
from polyrank.data.templates import Span, Template, choose, rendered
from polyrank.data.tokens import Found, batched, flat, joined, padding, place, stored
from polyrank.errors import DataError
from polyrank.recipe.schema import Data


def tokenize(
    tokenizer: PreTrainedTokenizerBase, examples: Examples, recipe: Data, store: Path | None = None
) -> Tokens:
    """All dialogues as token ids, each cut to what the recipe and the tokenizer's model take.

    Args:
        tokenizer: of the model, with a padding token.
        examples: dialogues, with their categories.
        recipe: the template, what is learned, and the most tokens.
        store: a folder where ids are kept between runs; one that cannot be written is warned of.

    Raises:
        RecipeError: there is no such template.
        DataError: a template or a tokenizer with which answers cannot be told apart.
    """
    dialogues: Sequence[Any] = examples.texts
    template = choose(tokenizer, recipe.template, dialogues)
    limit = min(recipe.max_length, tokenizer.model_max_length)
    found = stored(
        place(store, tokenizer, dialogues, limit, template.text, recipe.loss),
        len(examples),
        lambda: _computed(tokenizer, dialogues, template, recipe.loss == "all", limit),
    )
    labels = torch.tensor(examples.labels, dtype=torch.int64)
    counted = found["counted"].bool()
    return Tokens(
        found["ids"], labels, found["starts"], padding(tokenizer), counted, found["whole"]
    )


def cut(tokens: Tokens) -> tuple[int, int]:
    """How many dialogues were longer than they may be, and the tokens of the longest before."""
    if tokens.whole is None:
        return 0, 0
    return int((tokens.whole > tokens.starts.diff()).sum()), int(tokens.whole.max())


def window(counted: Sequence[bool], limit: int) -> slice:
    """Which tokens of a dialogue are kept.

    The first ones; where no answer begins in them, the last ones of the prompt, and of the answer
    what then has room, at most half of the whole: so a long prompt never hides all of the answer.
    """
    # The first token has no prediction, so that its mark does not count.
    if len(counted) <= limit or any(counted[1:limit]):
        return slice(0, limit)
    end = min(len(counted), counted.index(True, 1) + max(1, limit // 2))
    return slice(end - limit, end)


def marked(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Which tokens share a character with one of the spans.

    Args:
        offsets: by token, the characters that it stands for; none of a token that was added.
        spans: answers.
    """
    return [any(a < end and b > start and a < b for start, end in spans) for a, b in offsets]


def _computed(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Any],
    template: Template,
    everything: bool,
    limit: int,
) -> Found:
    if not tokenizer.is_fast:
        raise DataError(
            f"the tokenizer of {tokenizer.name_or_path!r} does not say which characters a token "
            "stands for, which marks answers; use a model with a tokenizer.json"
        )
    ids, counted, lengths = [], [], [0]
    whole: list[int] = []
    for some in batched(dialogues):
        texts, spans = zip(*(rendered(tokenizer, template, d) for d in some), strict=True)
        found = tokenizer(
            list(texts), add_special_tokens=False, return_offsets_mapping=True,
            return_attention_mask=False, return_token_type_ids=False, verbose=False,
        )  # fmt: skip
        rows, marks = [], []
        for row, offsets, own, text in zip(
            found["input_ids"], found["offset_mapping"], spans, texts, strict=True
        ):
            marks_of = marked(offsets, [(0, len(text))] if everything else own)
            if not any(marks_of[1:]):
                raise DataError(f"the tokenizer finds nothing to predict in {text!r}")
            kept = window(marks_of, limit)
            rows.append(row[kept])
            marks.append(marks_of[kept])
        ids.append(flat(rows))
        counted.append(flat(marks))
        lengths += map(len, rows)
        whole += map(len, found["input_ids"])
    return {
        "ids": joined(ids),
        "starts": torch.tensor(lengths).cumsum(0),
        "counted": joined(counted),
        "whole": torch.tensor(whole),
    }
