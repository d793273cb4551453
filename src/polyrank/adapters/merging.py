"""The base model with an update in its weights: W := W + s·B A, and the modules kept whole."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from safetensors import SafetensorError
from transformers import AutoTokenizer

from polyrank import files
from polyrank.adapters.writing import provenance
from polyrank.client.adding import add
from polyrank.client.pretrained import located
from polyrank.client.quieting import quiet
from polyrank.errors import AdapterError, RankError, RecipeError
from polyrank.lora.factor import Adapter, Factors
from polyrank.lora.incoming import FACTS, Incoming
from polyrank.lora.peft import CARD, HEAD_MODULES

# transformers' class for PEFT's task_type.
_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification", "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM", "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering", "FEATURE_EXTRACTION": "AutoModel",
    None: "AutoModel",
}  # fmt: skip


class Base(NamedTuple):
    """Which model an update goes into.

    Args:
        name: "minilm", a folder, or a name on the hub.
        classes: names of a classifier's classes, where they are known.
    """

    name: str
    classes: tuple[str, ...] = ()


def merge(
    out: Path, one: Incoming, factors: Factors, base: Base, made: Mapping[str, Any], card: bytes
) -> None:
    """Write the base model with an update in it, as `from_pretrained` loads it.

    Args:
        out: where; claimed.
        one: the adapter, for its task and what it keeps whole.
        factors: the update; any ranks.
        base: the model.
        made: where it comes from, as JSON.
        card: README.md.

    Raises:
        AdapterError: there is no such base, or the adapter is not of it.
        StorageError: it cannot be written.
    """
    try:
        folder = located(base.name)
    except RecipeError as error:
        raise AdapterError(f"{one.path}: the base {error.problem}") from None
    net = _loaded(folder, one, base)
    try:
        add(net, Adapter(factors, one.adapter.dense))
    except RankError as error:
        raise AdapterError(f"{one.path} does not fit {base.name!r}: {error}") from None
    with files.replaced(out) as new, quiet():
        net.save_pretrained(new)
        with suppress(OSError, ValueError, KeyError):  # some models come without a tokenizer
            AutoTokenizer.from_pretrained(folder, trust_remote_code=False).save_pretrained(new)
        (new / CARD).write_bytes(card)
        (new / FACTS).write_bytes(provenance(made, [p.name for p in new.iterdir()]))


def _loaded(folder: Path, one: Incoming, base: Base) -> Any:
    if one.task not in _CLASSES:
        raise AdapterError(f"{one.path}: no model is known for task_type {one.task!r}")
    count = len(base.classes) or _classes(one)
    labels = {"num_labels": count} if count and one.task in ("SEQ_CLS", "TOKEN_CLS") else {}
    try:
        with quiet():
            net = getattr(transformers, _CLASSES[one.task]).from_pretrained(
                folder, dtype="auto", use_safetensors=True, trust_remote_code=False,
                ignore_mismatched_sizes=bool(labels), **labels,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        line = str(error).strip().partition("\n")[0]
        raise AdapterError(f"the base {base.name!r} cannot be loaded: {line}") from error
    if base.classes:
        net.config.id2label = dict(enumerate(base.classes))
        net.config.label2id = {label: i for i, label in enumerate(base.classes)}
    return net


def _classes(one: Incoming) -> int | None:
    """How many classes a head that is kept whole is for: the rows of its last matrix."""
    heads = [t for name, t in one.adapter.dense.items() if t.ndim == 2
             and any(part in HEAD_MODULES for part in name.split("."))]  # fmt: skip
    return min((len(t) for t in heads), default=None)
