"""Section 4: on a GPU, samples per second against G, the clients that train at once."""

from typing import NamedTuple

import torch

from bench.machine import matmul_peak
from bench.measure import alternate, children, median, spread, started
from bench.section import Limits, Row, Section


class Setting(NamedTuple):
    """One model and how it is trained.

    Args:
        model: "minilm", or a Llama of random weights (bench/gpu_training.py).
        batch: texts of a client in a step.
        length: tokens in a text.
        groups: numbers of clients at once, rising.
        steps: timed together.
    """

    model: str
    batch: int
    length: int
    groups: tuple[int, ...]
    steps: int = 10


ALL = [
    Setting("minilm", 16, 64, (1, 4, 16, 64, 256)),
    Setting("minilm", 4, 32, (1, 4, 16, 64, 256)),
    Setting("llama-1b", 4, 128, (1, 2, 4, 8, 16)),
]
TINY = [Setting("llama-tiny", 2, 4, (1, 2), 2)]
NOTES = [
    "A training step alone: the base in bf16, factors, heads and optimizer in float32, G clients "
    "in one forward and backward pass through the library's own layers; nothing is sent. Read down "
    "a model: how samples per second grow with G, until the GPU is full.",
    "The mark's G = auto is the fastest of the G that were measured.",
]


def run(quick: bool, limits: Limits) -> Section:
    """Every model and G in bf16; without a GPU a row that says so."""
    if not torch.cuda.is_available() and not limits.tiny:
        row: Row = {"model": "all", "note": "not run: there is no GPU here"}
        limits.tell(row)
        return Section("GPU", [row], {}, NOTES)
    device, dtype = ("cuda", "bfloat16") if torch.cuda.is_available() else ("cpu", "float32")
    peak = limits.matmul[dtype]
    if device == "cuda":
        peak = matmul_peak(torch.bfloat16, device, size=8192)
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    moved: dict[str, float] = {}
    for setting in TINY if limits.tiny else ALL[:1] if quick else ALL:
        rates: dict[int, list[float]] = {}
        for group in setting.groups:
            row, rates[group] = _measured(setting, group, (device, dtype, peak), limits)
            limits.tell(row)
            rows.append(row)
        _compare(setting, rates, ratios, moved)
    return Section("GPU", rows, ratios, NOTES, moved)


def _measured(
    setting: Setting, group: int, where: tuple[str, str, float], limits: Limits
) -> tuple[Row, list[float]]:
    device, dtype, peak = where
    row: Row = {"model": setting.model, "batch": setting.batch, "length": setting.length,
                "device": device, "dtype": dtype, "G": group}  # fmt: skip
    args = {**setting._asdict(), "group": group, "device": device, "dtype": dtype}
    job = ("bench.gpu_training:start", {**args, "threads": limits.threads})
    with children({"": job}) as alone:
        said = started(alone[""])
        answers = [said]
        if "failed" not in said:
            answers = alternate(alone, lambda name, first: 2)[""]
    done = [a for a in answers if "failed" not in a]
    if not done:
        return {**row, "note": f"failed: {answers[-1]['failed']}"}, []
    rates = [a["samples"] / a["seconds"] for a in done]
    each = done[0]["flops"] / done[0]["samples"]
    row |= {"samples/s": median(rates), "spread": spread(rates),
            "share of peak": each * median(rates) / peak, "TFLOP/s": each * median(rates) / 1e12,
            "peak MB": done[-1]["memory"] / 1e6 if "memory" in done[-1] else None}  # fmt: skip
    return row, rates


def _compare(
    setting: Setting,
    rates: dict[int, list[float]],
    ratios: dict[str, float],
    moved: dict[str, float],
) -> None:
    """The fastest G over G = 1; of a model's first setting."""
    name = f"gpu_{setting.model.replace('-', '_')}_auto_vs_g1"
    able = {group: some for group, some in rates.items() if some}
    if 1 in able and name not in ratios:
        best = max(able.values(), key=median)
        ratios[name] = median(best) / median(able[1])
        moved[name] = spread(best) + spread(able[1])
