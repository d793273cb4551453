"""Section 2: how many samples a second clients train on, by us and by others."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bench import federation
from bench.federation import Setting
from bench.measure import Answer, Child, alternate, children, median, spread, started
from bench.section import Limits, Row, Section

Target = tuple[str, Mapping[str, object]]
Rates = dict[str, list[float]]

TINY = [Setting(2, 1.0, 1, 4, 8, 1, True), Setting(2, 1.0, 1, 4, 4, 1)]
QUICK = [Setting(64, 0.125, 2, 16, 64, 3, True), Setting(64, 0.5, 2, 4, 32, 3)]
ALL = [
    Setting(8, 1.0, 2, 16, 64, 3),
    Setting(64, 0.25, 2, 16, 64, 3, True),
    Setting(512, 1 / 32, 1, 16, 64, 3),
    Setting(64, 0.5, 4, 4, 32, 3),
]
PEFT, COPIES, G1, AUTO = "peft", "copies", "g1", "auto"
FLOWER, KEPT = "flower", "flower_kept"
WORDS = {
    PEFT: "plain PEFT, one model (no federation)",
    COPIES: "a deep copy per client (FLoRA's code)",
    G1: "**ours**, one client at a time",
    AUTO: "**ours**, G = auto",
    FLOWER: "Flower's engine, PEFT (as its example)",
    KEPT: "Flower's engine, PEFT, the model kept",
}
NOTES = [
    "MiniLM with LoRA on query and value, ranks 4 to 64 in equal shares, the head trained, AdamW, "
    "gradients clipped; every text has exactly `length` tokens, so nothing is padded. The methods "
    "take turns, each in a process of its own; samples per second are of the median round.",
    "Ours are whole rounds: messages packed, sent, checked and aggregated (replicate). Plain PEFT "
    "is one model on as many of the same texts, with no federation at all: the limit for one "
    "client at a time. Of Flower's engine the memory is that of all its processes.",
    "`first s` and `first MB` are the time from the start of the process (with every import) to "
    "the end of the first client's training, and the resident memory then.",
]


def run(quick: bool, limits: Limits) -> Section:
    """Every setting in float32, and in bf16 where the machine's bf16 is the faster one."""
    settings = TINY if limits.tiny else QUICK if quick else ALL
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    moved: dict[str, float] = {}
    for setting in settings:
        for dtype in ("float32", "bfloat16"):
            found, rates = [_no_bf16(setting, limits)], Rates()
            if dtype == "float32" or limits.bf16:
                found, rates = _measured(setting, dtype, limits, quick or limits.tiny)
            for row in found:
                limits.tell(row)
            rows += found
            last = "" if dtype == "float32" else "_bf16"
            if setting.flower:
                _compare(ratios, moved, rates, last, "16")
            elif setting is settings[-1]:
                _compare(ratios, moved, rates, last, "4")
    return Section("Simulation", rows, ratios, NOTES, moved)


def targets(args: Mapping[str, object]) -> dict[str, Target]:
    """What takes turns in this process's threads."""
    return {
        PEFT: ("bench.peers.peft_plain:start", args),
        COPIES: ("bench.peers.flora_copies:start", args),
        G1: ("bench.ours:start", {**args, "group": 1}),
        AUTO: ("bench.ours:start", {**args, "group": "auto"}),
    }


def _measured(setting: Setting, dtype: str, limits: Limits, short: bool) -> tuple[list[Row], Rates]:
    """The rows of a setting, and by method its samples per second, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        args = {**federation.write(Path(folder), setting), "dtype": dtype}
        args["threads"] = limits.threads
        told = take_turns(targets(args), setting.repeats)
        if setting.flower:
            # By itself, since its idle processes would take time from the others.
            for name in (FLOWER,) if short else (FLOWER, KEPT):
                one = {name: ("bench.peers.flower_engine:start", {**args, "keep": name == KEPT})}
                told |= take_turns(one, setting.repeats)
    rates = {name: per_second(answers) for name, (_, answers) in told.items()}
    return [_row(setting, dtype, name, told[name], rates) for name in told], rates


def take_turns(jobs: Mapping[str, Target], repeats: int) -> dict[str, tuple[Answer, list[Answer]]]:
    """By method what its process said of its start, and of each round; a round to warm up comes
    with the start.
    """
    begun, able = dict[str, Answer](), dict[str, Child]()
    with ExitStack() as stack:
        for name, job in jobs.items():  # one at a time: the start is measured too
            child = stack.enter_context(children({name: job}))[name]
            begun[name] = started(child)
            if "failed" not in begun[name]:
                able[name] = child
        told = alternate(able, lambda name, first: repeats - 1)
    return {name: (begun[name], told.get(name, [begun[name]])) for name in jobs}


def per_second(answers: list[Answer]) -> list[float]:
    """Samples per second of each round that was done."""
    return [a["samples"] / a["seconds"] for a in answers if "failed" not in a]


def _row(
    setting: Setting, dtype: str, name: str, told: tuple[Answer, list[Answer]], rates: Rates
) -> Row:
    begun, answers = told
    row: Row = {**_about(setting, dtype), "method": WORDS[name]}
    if not rates[name]:
        return {**row, "note": _why(str(answers[-1]["failed"]))}
    rate = median(rates[name])
    plain = median(rates[PEFT]) if rates.get(PEFT) else None
    most = max(a.get("resident", begun["start_rss"] + a["peak"]) for a in answers)
    row |= {"× plain PEFT": plain and rate / plain, "samples/s": rate, "times": len(rates[name]),
            "spread": spread(rates[name]), "group": begun.get("group"), "peak MB": most / 1e6,
            "first s": begun["start_s"], "first MB": begun["start_rss"] / 1e6}  # fmt: skip
    return row


def _about(setting: Setting, dtype: str) -> Row:
    return {"clients": setting.clients, "in a round": setting.active, "steps": setting.steps,
            "batch": setting.batch, "length": setting.length, "dtype": dtype}  # fmt: skip


def _no_bf16(setting: Setting, limits: Limits) -> Row:
    return {**_about(setting, "bfloat16"), "method": "all", "note": no_bf16(limits)}


def no_bf16(limits: Limits) -> str:
    """Why nothing is run in bf16."""
    slow, fast = (limits.matmul[name] / 1e9 for name in ("bfloat16", "float32"))
    return f"not run: no bf16 matrix units on this CPU ({slow:.3g} GFLOP/s, float32 {fast:.3g})"


def _why(failed: str) -> str:
    missing = "No module named"
    if missing in failed:
        return f"not run: {failed.partition(missing)[2].strip()} is not installed"
    return f"failed: {failed}"


def _compare(
    ratios: dict[str, float], moved: dict[str, float], rates: Rates, last: str, batch: str
) -> None:
    """Ours over the others, under the names that later runs look for."""
    pairs = {f"simulation_vs_peft_auto_batch{batch}": (AUTO, PEFT)}
    if batch == "16":
        pairs |= {
            "simulation_vs_peft_g1": (G1, PEFT),
            "simulation_vs_copies_64": (AUTO, COPIES),
            "simulation_vs_flower_64": (AUTO, FLOWER),
            "simulation_vs_flower_64_model_kept": (AUTO, KEPT),
        }
    for name, (one, other) in pairs.items():
        if rates.get(one) and rates.get(other):
            ratios[name + last] = median(rates[one]) / median(rates[other])
            moved[name + last] = spread(rates[one]) + spread(rates[other])
