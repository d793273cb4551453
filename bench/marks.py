"""What was promised: the marks that measured ratios stand beside."""

from typing import NamedTuple


class Mark(NamedTuple):
    """A promise about one ratio.

    Args:
        ratio: its name.
        least: whether the value is the least that is promised, or the most.
        value: the mark.
        words: what is promised.
    """

    ratio: str
    least: bool
    value: float
    words: str

    def met(self, measured: float) -> bool:
        return measured >= self.value if self.least else measured <= self.value


MARKS = [
    Mark("aggregation_vs_flexlora_4096_k100", True, 100, "faster than FlexLoRA's own code"),
    Mark("aggregation_vs_qr_4096_k100", True, 20, "faster than NVIDIA FLARE's QR-core"),
    Mark("aggregation_over_floor_4096_k100", False, 5, "times the floor of memory and arithmetic"),
    Mark("aggregation_error_over_best_4096_k100", False, 1e-4,
         "error above the best of rank 64, relative (float64)"),
    Mark("simulation_vs_peft_g1", True, 0.95, "of plain PEFT's speed, one client at a time"),
    Mark("simulation_vs_peft_auto_batch16", True, 1.5, "times plain PEFT, batch 16, G = auto"),
    Mark("simulation_vs_peft_auto_batch4", True, 2.7, "times plain PEFT, batch 4, G = auto"),
    Mark("simulation_vs_flower_64", True, 5, "times Flower's simulation engine, 64 clients"),
    Mark("simulation_vs_peft_auto_batch16_bf16", True, 1.5, "times plain PEFT, bf16, batch 16"),
    Mark("simulation_vs_peft_auto_batch4_bf16", True, 2.7, "times plain PEFT, bf16, batch 4"),
    Mark("gpu_minilm_auto_vs_g1", True, 8, "times G = 1, MiniLM on a GPU"),
    Mark("network_over_floor_1mb", False, 1.3, "times a round of Flower itself, 1 MB, 3 nodes"),
]  # fmt: skip
