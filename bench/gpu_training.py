"""G clients at once on one device: a forward and a backward pass through the library's own layers.

Tokens are drawn on the device and nothing is sent: this measures the training step alone. Factors
and optimizer are in float32, the base in the dtype that is asked for.
"""

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, LlamaConfig

from bench.child import Job
from bench.federation import CLASSES, CLIP, LR, TARGETS
from bench.peers.plain import base, rank_of
from polyrank.client.classifying import Classifying
from polyrank.client.model import Workbench
from polyrank.client.placing import Model, place_all, trainable
from polyrank.lora.factor import Factor
from polyrank.lora.head import attach as attach_head
from polyrank.lora.layer import attach

# Llama 3.2's shape at 1B, with a vocabulary of 32,000; and one for the tests.
LLAMAS = {
    "llama-1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                 "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000},
    "llama-tiny": {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
                   "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 100},
}  # fmt: skip


class Bench(NamedTuple):
    """What a step needs.

    Args:
        net: the model, with the clients' factors on it.
        own: every client's parameters.
        optimizer: of all of them.
        batch: token ids, mask and labels, one client's rows after another's.
    """

    net: Any
    own: list[list[nn.Parameter]]
    optimizer: torch.optim.Optimizer
    batch: tuple[Tensor, Tensor, Tensor]


def start(args: dict[str, Any]) -> Job:
    """Two steps as a beginning; then a step is args["steps"] steps for args["group"] clients."""
    bench, device = _bench(args), args["device"]
    for _ in range(2):
        _step(bench)
    counter = FlopCounterMode(display=False)
    with counter:
        _step(bench)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def steps() -> float:
        begun = time.perf_counter()
        for _ in range(args["steps"]):
            _step(bench)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    def told(seconds: float) -> dict[str, object]:
        found: dict[str, object] = {
            "samples": args["steps"] * args["group"] * args["batch"],
            "flops": args["steps"] * counter.get_total_flops(),
        }
        if device == "cuda":
            found["memory"] = torch.cuda.max_memory_allocated()
        return found

    return Job(steps, told)


def _bench(args: dict[str, Any]) -> Bench:
    device, group = args["device"], args["group"]
    torch.manual_seed(0)
    net = _net(args["model"], args["dtype"]).to(device)
    net.requires_grad_(False)
    ends = TARGETS if args["model"] == "minilm" else ("q_proj", "v_proj")
    modules = {n: m for n, m in net.named_modules() if n.rpartition(".")[2] in ends}
    layers = {n: attach(m) for n, m in modules.items()}
    name = "classifier" if args["model"] == "minilm" else "score"
    head = tuple(n for n, _ in net.named_parameters() if n.split(".")[0] == name)
    heads = {name: attach_head(getattr(net, name))}
    task = Classifying(())  # its losses do not ask for names
    bench = Workbench(net, None, layers, head, True, args["model"], task, heads=heads)
    models = [_model(bench, rank_of(client), device) for client in range(group)]
    place_all(bench, sorted(models, key=lambda model: next(iter(model.factors.values())).rank))
    own = [
        [*factors, *dense] for factors, dense in (trainable(bench, "ab", i) for i in range(group))
    ]
    everything = [p for some in own for p in some]
    optimizer = torch.optim.AdamW(everything, lr=LR, weight_decay=0.0, fused=True)
    rows, top = group * args["batch"], net.config.vocab_size
    ids = torch.randint(2, top, (rows, args["length"]), device=device)
    labels = torch.randint(CLASSES, (rows,), device=device)
    net.train()
    return Bench(net, own, optimizer, (ids, torch.ones_like(ids), labels))


def _step(bench: Bench) -> None:
    """As the library's trainer: all clients' losses at once, each client clipped by itself."""
    ids, mask, labels = bench.batch
    bench.optimizer.zero_grad(set_to_none=True)
    logits = bench.net(input_ids=ids, attention_mask=mask).logits.float()
    losses = cross_entropy(logits, labels, reduction="none").view(len(bench.own), -1)
    torch.autograd.backward(losses.mean(dim=1).sum())
    for own in bench.own:
        clip_grad_norm_(own, CLIP)
    bench.optimizer.step()


def _net(name: str, dtype: str) -> Any:
    if name == "minilm":
        return base(dtype)
    config = LlamaConfig(**LLAMAS[name], num_labels=CLASSES, pad_token_id=0)
    return AutoModelForSequenceClassification.from_config(config, dtype=getattr(torch, dtype))


def _model(bench: Workbench, rank: int, device: str) -> Model:
    """Random rows of A, B = 0, and the net's head, in float32 on the device."""
    factors = {}
    for name, layer in bench.layers.items():
        out, inn = layer.shape
        a = torch.randn(min(rank, out, inn), inn, device=device) / inn**0.5
        factors[name] = Factor(a, torch.zeros(out, len(a), device=device))
    dense = {n: bench.net.get_parameter(n).detach().float() for n in bench.head}
    return Model(factors, dense)
