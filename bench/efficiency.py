"""Section 3: floating-point operations a second of local training, over the peak of a product."""

import tempfile
from pathlib import Path

from bench import federation
from bench.federation import Setting
from bench.measure import median, spread
from bench.section import Limits, Row, Section
from bench.simulation import AUTO, G1, PEFT, WORDS, no_bf16, per_second, take_turns, targets

TINY = Setting(2, 1.0, 1, 4, 8, 1)
QUICK = Setting(64, 0.125, 1, 16, 64, 2)
ALL = Setting(64, 0.25, 2, 16, 64, 2)
NOTES = [
    "Operations are counted by torch's FlopCounterMode over a round (forward and backward; those "
    "of an optimizer, a norm or a softmax are not counted), and divided by the time of a round "
    "that is not counted. The peak is that of a large matrix product of the same dtype, the "
    "quickest that there is, measured in this run with the same threads.",
]


def run(quick: bool, limits: Limits) -> Section:
    """Plain PEFT and ours, in float32, and in bf16 where that pays."""
    setting = TINY if limits.tiny else QUICK if quick else ALL
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    moved: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        if dtype == "bfloat16" and not limits.bf16:
            found: list[Row] = [{"dtype": dtype, "method": "all", "note": no_bf16(limits)}]
        else:
            found = _measured(setting, dtype, limits, (ratios, moved))
        for row in found:
            limits.tell(row)
        rows += found
    return Section("Efficiency", rows, ratios, NOTES, moved)


def _measured(
    setting: Setting,
    dtype: str,
    limits: Limits,
    into: tuple[dict[str, float], dict[str, float]],
) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        args = {**federation.write(Path(folder), setting), "dtype": dtype}
        args["threads"] = limits.threads
        jobs = {n: job for n, job in targets(args).items() if n in (PEFT, G1, AUTO)}
        timed = take_turns(jobs, setting.repeats)
        counting = {n: (target, {**a, "count": True}) for n, (target, a) in jobs.items()}
        counted = {n: take_turns({n: job}, 1)[n] for n, job in counting.items()}
    rows: list[Row] = []
    for name in jobs:
        row: Row = {"dtype": dtype, "method": WORDS[name]}
        rows.append(row)
        rates, (_, counts) = per_second(timed[name][1]), counted[name]
        if not rates or "failed" in counts[0]:
            row["note"] = f"failed: {counts[0].get('failed') or timed[name][1][-1]['failed']}"
            continue
        each = counts[0]["flops"] / counts[0]["samples"]
        share = each * median(rates) / limits.peak(dtype)
        row |= {"share of peak": share, "GFLOP/s": each * median(rates) / 1e9,
                "peak GFLOP/s": limits.peak(dtype) / 1e9, "GFLOP per sample": each / 1e9,
                "samples/s": median(rates), "spread": spread(rates)}  # fmt: skip
        last = "" if dtype == "float32" else "_bf16"
        into[0][f"efficiency_{name}{last}"], into[1][f"efficiency_{name}{last}"] = (
            share, spread(rates),
        )  # fmt: skip
    return rows
