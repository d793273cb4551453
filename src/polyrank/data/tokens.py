"""Texts as token ids: once for all runs of all processes, which then map one file.

A file is named by all that decides its ids: the texts, the tokenizer and the longest text.
"""

import json
import warnings
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from jaxtyping import Int32, Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from polyrank.data import digest, kept
from polyrank.data.batches import Tokens
from polyrank.data.cache import folder as cache_folder
from polyrank.data.examples import Examples
from polyrank.errors import DataError, SlowerWarning, StorageError

_AT_A_TIME = 4096  # texts whose ids are Python objects at once
Flat = tuple[Int32[Tensor, " total"], Int64[Tensor, " starts"]]


def folder() -> Path:
    """Where token ids are kept between runs."""
    return cache_folder() / "tokens"


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    max_length: int,
    store: Path | None = None,
) -> Tokens:
    """All texts as token ids, each cut to `max_length` or to what the tokenizer's model takes.

    Args:
        tokenizer: of the model.
        examples: the texts, with their classes.
        max_length: tokens of a text.
        store: a folder where ids are kept between runs; one that cannot be written is warned of.

    Raises:
        DataError: the tokenizer has nothing to pad with, or turns a text into no token at all.
    """
    limit, fill = min(max_length, tokenizer.model_max_length), _pad(tokenizer)
    named = store and _name(tokenizer, examples.texts, limit)
    path = store / f"{named}.safetensors" if store and named else None
    ids, starts = (path and _loaded(path, len(examples))) or _computed(
        tokenizer, examples.texts, limit, path
    )
    return Tokens(ids, torch.tensor(examples.labels, dtype=torch.int64), starts, fill)


def _computed(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int, path: Path | None
) -> Flat:
    """All ids and where each text starts; mapped from the file at `path`, if there may be one."""
    parts, lengths = [np.empty(0, np.int32)], [0]
    for first in range(0, len(texts), _AT_A_TIME):
        some = texts[first : first + _AT_A_TIME]
        found = tokenizer(
            list(some), truncation=True, max_length=limit,
            return_attention_mask=False, return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
        if [] in found:
            raise DataError(f"the tokenizer finds no token in {some[found.index([])]!r}")
        lengths += map(len, found)
        parts.append(np.fromiter(chain.from_iterable(found), np.int32))
    flat = torch.from_numpy(np.concatenate(parts)), torch.tensor(lengths).cumsum(0)
    return (path and _written(path, flat)) or flat


def _written(path: Path, flat: Flat) -> Flat | None:
    try:
        kept.save(path, {"ids": flat[0], "starts": flat[1]})
    except StorageError as error:
        warnings.warn(f"{error}; token ids stay in memory", SlowerWarning, stacklevel=2)
        return None
    return _loaded(path, len(flat[1]) - 1)


def _loaded(path: Path, count: int) -> Flat | None:
    """What is kept at `path`; None where that is nothing, or not the ids of so many texts."""
    found = kept.load(path) or {}
    if found.keys() != {"ids", "starts"}:
        return None
    ids, starts = found["ids"], found["starts"]
    fitting = (ids.dtype, starts.dtype, starts.shape) == (torch.int32, torch.int64, (count + 1,))
    return (ids, starts) if fitting and ids.shape == (int(starts[-1]),) else None


def _name(tokenizer: Any, texts: Sequence[str], limit: int) -> str | None:
    """What texts, tokenizer and limit stand for; None of a tokenizer that cannot tell all of it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    told = json.loads(backend.to_str())
    facts = {
        "code": [transformers.__version__, tokenizers.__version__],
        "class": type(tokenizer).__qualname__,
        # The last call's own settings are kept in there too.
        "tokenizer": {k: v for k, v in told.items() if k not in ("truncation", "padding")},
        "cut": [limit, tokenizer.truncation_side],
        "texts": texts,
    }
    return digest.of_json(facts)


def _pad(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise DataError(
        f"the tokenizer of {tokenizer.name_or_path!r} has neither a padding nor an end-of-text "
        "token; set one in its tokenizer_config.json"
    )
