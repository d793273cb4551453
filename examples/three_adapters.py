"""Three adapters of one model become one: by PEFT's add_weighted_adapter, and by polyrank.

They differ as adapters of three teams do: in rank, also by layer, in alpha, and one is of rsLoRA.
`cat` and `svd` are PEFT's careful ways; what they make inherits the first adapter's rsLoRA flag.
What is shown is how far the result, saved and loaded again, is from Σ w ΔW, relative to its size.

    python examples/three_adapters.py
"""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import BertConfig, BertModel

from polyrank.adapters.combining import Asked, combine

TEAMS = {
    "clinic": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["query", "value"]},
    "lab": {"r": 8, "lora_alpha": 16, "target_modules": ["query", "value"]},
    "university": {
        "r": 16, "lora_alpha": 16, "rank_pattern": {"value": 8},
        "target_modules": ["query", "value"],
    },
}  # fmt: skip
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 64, "vocab_size": 100}  # fmt: skip


def deltas(model: PeftModel, adapter: str = "default") -> dict[str, Tensor]:
    """ΔW of every layer that the adapter adapts, as PEFT computes it."""
    return {
        name: module.get_delta_weight(adapter).detach().double()
        for name, module in model.base_model.model.named_modules()
        if isinstance(module, LoraLayer) and adapter in module.lora_A
    }


def error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """‖found − wanted‖ / ‖wanted‖ over all layers; a layer that is missing counts as zero."""
    apart = sum(float((found.get(n, 0 * d) - d).square().sum()) for n, d in wanted.items())
    return (apart / sum(float(d.square().sum()) for d in wanted.values())) ** 0.5


def base(folder: Path) -> BertModel:
    return BertModel.from_pretrained(folder / "base")


def trained(folder: Path) -> dict[str, Path]:
    """A folder for each team's adapter, as PEFT saves it; the numbers are random."""
    torch.manual_seed(0)
    BertModel(BertConfig(**SMALL)).save_pretrained(folder / "base")
    for name, config in TEAMS.items():
        torch.manual_seed(len(name))
        model = get_peft_model(base(folder), LoraConfig(init_lora_weights=False, **config))
        model.save_pretrained(folder / name)
    return {name: folder / name for name in TEAMS}


def by_peft(folder: Path, adapters: dict[str, Path], weights: list[float], how: str) -> PeftModel:
    """PEFT's own way: load all, combine, save, load again."""
    names = list(adapters)
    model = PeftModel.from_pretrained(base(folder), adapters[names[0]], adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(adapters[name], adapter_name=name)
    model.add_weighted_adapter(names, weights, "all", combination_type=how)
    model.save_pretrained(folder / how, selected_adapters=["all"])
    return PeftModel.from_pretrained(base(folder), folder / how / "all")


def by_polyrank(folder: Path, adapters: dict[str, Path], weights: list[float], how: str) -> Path:
    """polyrank aggregate clinic lab university --algorithm … --weights 0.2,0.3,0.5 --out …"""
    out = folder / f"polyrank-{how}"
    text = ",".join(map(str, weights))
    combine(Asked(tuple(adapters.values()), out, how, text))
    return out


def compare(folder: Path) -> dict[str, tuple[str, int]]:
    """By way: how far it is from the exact mean, or why it fails; and its largest rank."""
    adapters, weights = trained(folder), [0.2, 0.3, 0.5]
    each = [deltas(PeftModel.from_pretrained(base(folder), path)) for path in adapters.values()]
    wanted = {n: sum(w * d[n] for w, d in zip(weights, each, strict=True)) for n in each[0]}
    found: dict[str, tuple[str, int]] = {}
    for how in ("linear", "svd", "cat"):
        try:
            model = by_peft(folder, adapters, weights, how)
            found[f"PEFT {how}"] = f"{error(deltas(model), wanted):.1e}", _rank(model)
        except (ValueError, RuntimeError) as problem:
            found[f"PEFT {how}"] = str(problem).splitlines()[0], 0
    for how in ("zero-pad", "replicate", "flexlora", "flora"):
        out = by_polyrank(folder, adapters, weights, how)
        model = PeftModel.from_pretrained(base(folder), out)
        found[f"polyrank {how}"] = f"{error(deltas(model), wanted):.1e}", _rank(model)
    return found


def _rank(model: PeftModel) -> int:
    return max(m.r["default"] for m in model.modules() if isinstance(m, LoraLayer))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as place:
        for way, (told, rank) in compare(Path(place)).items():
            print(f"{way:18} {told:12} {f'rank {rank}' if rank else ''}")
