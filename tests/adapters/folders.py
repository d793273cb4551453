"""Adapter folders for tests: written by hand in every form that PEFT knows, with their ΔW."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

PREFIX = "base_model.model."
SHAPES = {
    "model.layers.0.self_attn.q_proj": (12, 10),
    "model.layers.0.self_attn.v_proj": (6, 10),
    "model.layers.1.self_attn.q_proj": (12, 10),
    "model.layers.1.mlp.down_proj": (10, 14),
}
BASE = "owner/model"


@dataclass
class Written:
    """A folder, and what it stands for in float64."""

    path: Path
    factors: dict[str, tuple[Tensor, Tensor]]  # A, and B with the scale folded in
    ranks: dict[str, int]
    dense: dict[str, Tensor] = field(default_factory=dict)

    @property
    def deltas(self) -> dict[str, Tensor]:
        return {name: b @ a for name, (a, b) in self.factors.items()}


def write(  # noqa: PLR0913 - a parameter for everything that a folder may say
    path: Path,
    ranks: Mapping[str, int],
    *,
    seed: int = 0,
    alpha: float = 4.0,
    rslora: bool = False,
    alphas: Mapping[str, float] | None = None,
    dense: Mapping[str, tuple[int, ...]] | None = None,
    shards: int = 0,
    examples: int | None = None,
    shapes: Mapping[str, tuple[int, int]] = SHAPES,
    config: Mapping[str, Any] | None = None,
) -> Written:
    """Write a folder by the rules of PEFT's documentation, not by our own code."""
    draw = torch.Generator().manual_seed(seed)
    tensors, factors = {}, {}
    r = max(ranks.values())
    for name, rank in ranks.items():
        out, width = shapes[name]
        a = torch.randn(rank, width, generator=draw) / width**0.5
        b = torch.randn(out, rank, generator=draw) / rank**0.5
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b
        own = (alphas or {}).get(name, alpha)
        scale = own / (rank**0.5 if rslora else rank)
        factors[name] = a.double(), scale * b.double()
    whole = {n: torch.randn(shape, generator=draw) for n, shape in (dense or {}).items()}
    for name, tensor in whole.items():
        layer, _, which = name.rpartition(".")
        key = f"{layer}.base_layer.{which}" if layer in ranks else name
        tensors[f"{PREFIX}{key}"] = tensor
    said = {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": BASE,
        "r": r, "lora_alpha": alpha, "use_rslora": rslora, "bias": "none",
        "rank_pattern": {n: k for n, k in ranks.items() if k != r},
        "alpha_pattern": dict(alphas or {}),
        "target_modules": sorted({n.rpartition(".")[2] for n in ranks}),
        **(config or {}),
    }  # fmt: skip
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps(said))
    _save(path, tensors, shards)
    if examples is not None:
        (path / "polyrank.json").write_text(json.dumps({"examples": examples}))
    return Written(path, factors, dict(ranks), whole)


def _save(path: Path, tensors: Mapping[str, Tensor], shards: int) -> None:
    if not shards:
        save_file(dict(tensors), path / "adapter_model.safetensors")
        return
    places = {}
    for i in range(shards):
        name = f"adapter_model-{i + 1:05}-of-{shards:05}.safetensors"
        own = {k: t for n, (k, t) in enumerate(tensors.items()) if n % shards == i}
        save_file(own, path / name)
        places |= dict.fromkeys(own, name)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (path / "adapter_model.safetensors.index.json").write_text(json.dumps(index))


class Tiny(nn.Module):
    """A model with layers of these names and shapes, and a head."""

    def __init__(self, shapes: Mapping[str, tuple[int, int]] = SHAPES) -> None:
        super().__init__()
        for name, (out, width) in shapes.items():
            self._put(name, nn.Linear(width, out))
        self._put("head", nn.Linear(4, 3))

    def _put(self, name: str, layer: nn.Module) -> None:
        *parents, last = name.split(".")
        place: nn.Module = self
        for part in parents:
            if part not in dict(place.named_children()):
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.add_module(last, layer)


def as_peft_loads(path: Path) -> tuple[dict[str, Tensor], nn.Module]:
    """ΔW by layer in float64, as `PeftModel.from_pretrained` understands a folder; the model."""
    model = peft.PeftModel.from_pretrained(Tiny(), str(path))
    deltas = {}
    for name, module in model.base_model.model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            a, b = (m["default"].weight.detach().double() for m in (module.lora_A, module.lora_B))
            deltas[name] = module.scaling["default"] * (b @ a)
    return deltas, model
