"""How many parameters an adapter of some rank has on a published model, with random weights.

Built on torch's meta device from the model's configuration alone: nothing is downloaded.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AlbertConfig, AutoModelForSequenceClassification, DistilBertConfig

from polyrank.lora.layer import shape
from polyrank.lora.targets import find

# Three 768×768 matrices of each layer; ALBERT's layers share theirs.
TARGETS = {
    "DistilBERT": (DistilBertConfig(), ("q_lin", "k_lin", "v_lin")),
    "ALBERT": (
        AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072),
        ("query", "key", "value"),
    ),
}


def per_rank(model: str) -> int:
    """Σ over the adapted matrices of (m + n): parameters of an adapter of rank one."""
    config, targets = TARGETS[model]
    return sum(sum(shape(m)) for m in find(_empty(config), targets).values())


def upload(model: str, ranks: Sequence[tuple[int, float]]) -> float:
    """Mean parameters that a client sends, for (rank, share of the clients) pairs."""
    return per_rank(model) * sum(rank * share for rank, share in ranks)


def _empty(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)
