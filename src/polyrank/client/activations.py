"""Activations of a frozen model part on disk, named by all that decides them.

A file is as large as the activations, and is mapped, not read, into memory.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from safetensors.torch import save as to_bytes
from torch import Tensor

from polyrank.client.cut import Cut
from polyrank.client.model import Workbench
from polyrank.data import kept
from polyrank.data.batches import Tokens
from polyrank.data.cache import folder as cache_folder
from polyrank.errors import StorageError
from polyrank.seeds import fingerprint

# Parts of a model's configuration that only its head reads.
_OF_HEAD = ("id2label", "label2id", "problem_type", "classifier_dropout", "seq_classif_dropout")


def folder() -> Path:
    """Where activations are kept between runs."""
    return cache_folder() / "activations"


def name(bench: Workbench, parts: Cut, tokens: Tokens) -> str:
    """The file name that frozen weights, place of the cut and tokens stand for.

    The head, the adapted modules (which may hold a fold) and the blocks above the cut are left out.
    """
    above = {id(p) for p in parts.blocks.parameters()}
    above |= {id(p) for n in bench.layers for p in bench.net.get_submodule(n).parameters()}
    frozen = {
        n: p.detach() for n, p in bench.net.named_parameters()
        if id(p) not in above and n not in bench.head
    }  # fmt: skip
    facts = {
        "code": [torch.__version__, transformers.__version__],
        "config": {k: v for k, v in _config(bench.net).items() if k not in _OF_HEAD},
        "cut": [parts.kind, next(n for n, m in bench.net.named_modules() if m is parts.below)],
        "weights": fingerprint(to_bytes(frozen)),
        "tokens": fingerprint(to_bytes({"ids": tokens.ids, "starts": tokens.starts})),
    }
    if not bench.absorbs and bench.initial.facts:
        facts["begun"] = bench.initial.facts["sha256"]
    return fingerprint(json.dumps(facts, sort_keys=True).encode())


def save(path: Path, states: Float[Tensor, "rows width"]) -> None:
    """Write in one step; a folder that cannot be written is no error, only slower."""
    with suppress(StorageError):
        kept.save(path, {"states": states})


def load(path: Path) -> Float[Tensor, "rows width"] | None:
    """What `save` wrote; None where there is nothing, or something else."""
    states = (kept.load(path) or {}).get("states")
    fitting = states is not None and states.dtype == torch.float32 and states.ndim == 2
    return states if fitting else None


def _config(net: Any) -> dict[str, Any]:
    return json.loads(net.config.to_json_string(use_diff=False))
