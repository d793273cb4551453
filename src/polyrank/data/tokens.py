"""Texts as token ids: once for all runs of all processes, which then map one file.

A file is named by all that decides its ids: the texts, the tokenizer and the longest text.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from polyrank.data import digest, kept
from polyrank.data.batches import Tokens
from polyrank.data.cache import folder as cache_folder
from polyrank.data.examples import Examples
from polyrank.errors import DataError, SlowerWarning, StorageError

_AT_A_TIME = 4096  # texts whose ids are Python objects at once
Found = dict[str, Tensor]  # ids [total], starts [examples+1], and what else is by token or example
WHOLE = {"ids": torch.int32, "starts": torch.int64}


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
    limit, fill = min(max_length, tokenizer.model_max_length), padding(tokenizer)
    texts = examples.texts
    path = place(store, tokenizer, texts, limit)
    found = stored(path, len(examples), lambda: _computed(tokenizer, texts, limit))
    labels = torch.tensor(examples.labels, dtype=torch.int64)
    return Tokens(found["ids"], labels, found["starts"], fill)


def stored(path: Path | None, count: int, compute: Callable[[], Found]) -> Found:
    """What is kept at `path`, or computed and kept there.

    Args:
        path: of the file; None computes.
        count: examples.
        compute: ids, starts and what else there is.
    """
    found = _loaded(path, count) if path else None
    return found or _written(path, count, compute())


def flat(parts: Sequence[Sequence[int]]) -> np.ndarray:
    """Numbers of several texts end to end."""
    return np.fromiter(chain.from_iterable(parts), np.int32)


def batched(texts: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """The texts in pieces whose ids are Python objects at once."""
    return [texts[first : first + _AT_A_TIME] for first in range(0, len(texts), _AT_A_TIME)]


def joined(parts: Sequence[np.ndarray]) -> Tensor:
    """Pieces end to end."""
    return torch.from_numpy(np.concatenate([np.empty(0, np.int32), *parts]))


def _computed(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Any], limit: int) -> Found:
    """All ids and where each text starts."""
    parts, lengths = [], [0]
    for some in batched(texts):
        found = tokenizer(
            list(some), truncation=True, max_length=limit,
            return_attention_mask=False, return_token_type_ids=False,
        )["input_ids"]  # fmt: skip
        if [] in found:
            raise DataError(f"the tokenizer finds no token in {some[found.index([])]!r}")
        lengths += map(len, found)
        parts.append(flat(found))
    return {"ids": joined(parts), "starts": torch.tensor(lengths).cumsum(0)}


def _written(path: Path | None, count: int, found: Found) -> Found:
    """What was found, mapped from the file at `path` if there may be one."""
    if path is None:
        return found
    try:
        kept.save(path, found)
    except StorageError as error:
        warnings.warn(f"{error}; token ids stay in memory", SlowerWarning, stacklevel=2)
        return found
    return _loaded(path, count) or found


def _loaded(path: Path, count: int) -> Found | None:
    """What is kept at `path`; None where that is nothing, or not the ids of so many texts."""
    found = kept.load(path) or {}
    if {name: found[name].dtype for name in WHOLE if name in found} != WHOLE:
        return None
    fitting = found["starts"].shape == (count + 1,)
    return found if fitting and found["ids"].shape == (int(found["starts"][-1]),) else None


def place(
    store: Path | None, tokenizer: Any, texts: Sequence[Any], limit: int, *how: str
) -> Path | None:
    """The file of these ids in a folder; None without a folder, or of a tokenizer that cannot tell
    all that decides them.

    Args:
        store: the folder.
        tokenizer: of the model.
        texts: what becomes ids.
        limit: tokens of each.
        how: whatever else decides the ids.
    """
    named = store and _name(tokenizer, texts, limit, how)
    return store / f"{named}.safetensors" if store and named else None


def _name(tokenizer: Any, texts: Sequence[Any], limit: int, how: Sequence[str]) -> str | None:
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
        **({"how": how} if how else {}),
    }
    return digest.of_json(facts)


def padding(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that a batch is filled up with.

    Raises:
        DataError: the tokenizer has neither a padding nor an end-of-text token.
    """
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise DataError(
        f"the tokenizer of {tokenizer.name_or_path!r} has neither a padding nor an end-of-text "
        "token; set one in its tokenizer_config.json"
    )
