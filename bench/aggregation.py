"""Section 1: K uploads of one layer become one factor of rank 64, by us and by others."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench import uploads
from bench.measure import Answer, Failed, alternate, children, median, settled, spread, started
from bench.methods import FLEXLORA, METHODS, ONE_PASS, OURS, QR_CORE, SVD, arithmetic
from bench.section import Limits, Row, Section
from bench.uploads import Case

HEADLINE = Case(4096, 4096, 100)
TINY = Case(48, 40, 10, rank=4, ranks=(1, 2, 4))
HEAVY = 5.0  # seconds above which a method is not repeated, but at the headline
ONCE = 40.0  # seconds above which it is measured on one case of a layer only
MOST = 150.0  # seconds above which it is not measured at all
NOTES = [
    "Seconds are medians; the methods take turns, each in a process of its own that maps the same "
    "file of uploads. Peak memory is the process's highest resident memory during its first turn "
    "less what it had before, so without the uploads.",
    "The error is ‖Δ − X‖ / ‖Δ − Δ₆₄‖ − 1 in float64, where Δ₆₄ is the best that rank 64 can do: 0 "
    "is the best, −1 the exact sum, whose rank is that of all uploads together.",
    "The floor is the larger of reading the uploads at the copy bandwidth and of "
    "4(m+n)·S·(R+10) operations at the matmul peak, both measured in this run with the same "
    "threads. The peak is that of torch's own product, which all peers use; where oneDNN is "
    "quicker ours multiplies by it, and `aggregation_over_floor_onednn_4096_k100` is over a floor "
    "at its peak. Uploads: `training` has a shared signal with singular values 1/j under noise, "
    "`flat` is noise alone (bench/uploads.py).",
]


def run(quick: bool, limits: Limits) -> Section:
    """All cases, or only the headline's (K = 100 at 4096×4096)."""
    cases = [TINY] if limits.tiny else [HEADLINE] if quick else _all()
    rows: list[Row] = []
    measured: dict[str, list[tuple[Case, float, float]]] = {name: [] for name in METHODS}
    headline: dict[str, list[float]] = {}
    errors: dict[str, float] = {}
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            answers, stacked = _measured(case, Path(folder) / "uploads", measured, limits)
        floor = _floor(case, stacked, limits, limits.matmul["float32"])
        for row in _rows(case, stacked, answers, floor):
            limits.tell(row)
            rows.append(row)
        if case in (HEADLINE, TINY):
            least = _floor(case, stacked, limits, limits.peak("float32"))
            done = {n: a for n, a in answers.items() if "failed" not in a[-1]}
            headline = {
                "floor": [floor],
                "least": [least],
                **{n: settled(a) for n, a in done.items()},
            }
            errors = {n: float(a[0]["error"]) for n, a in done.items()}
    ratios, moved = _ratios(headline)
    if OURS in errors:
        ratios["aggregation_error_over_best_4096_k100"] = errors[OURS]
    return Section("Aggregation", rows, ratios, NOTES, moved)


def _all() -> list[Case]:
    layers = ((768, 768), (4096, 4096), (4096, 11008))
    found = []
    for out, inn in layers:
        found += [Case(out, inn, clients) for clients in (10, 100, 1000)]
        found.append(Case(out, inn, 100, "flat"))
    return found


def _floor(case: Case, stacked: int, limits: Limits, peak: float) -> float:
    size = 4 * (case.out + case.inn) * stacked
    return max(size / limits.copy, arithmetic(case, stacked) / peak)


def _measured(
    case: Case, file: Path, before: dict[str, list[tuple[Case, float, float]]], limits: Limits
) -> tuple[dict[str, list[Answer]], int]:
    """By method its answers (or why there are none), and the stacked rank."""
    tensors = uploads.make(case)
    stacked = sum(len(t) for name, t in tensors.items() if name.startswith("a."))
    uploads.save(tensors, file)
    del tensors
    args: dict[str, object] = {"file": str(file), "rank": case.rank, "threads": limits.threads}
    with children({"": ("bench.aggregating:reference", args)}) as alone:
        alone[""].answer()
        known = alone[""].go()
    args |= {"square": known["square"], "tail": known["tail"]}
    told: dict[str, list[Answer]] = {}
    for name in METHODS:
        seconds = _too_long(name, case, stacked, before[name])
        if seconds is not None:
            told[name] = [{"failed": f"not run: estimated {seconds:.0f} s"}]
    jobs = {n: ("bench.aggregating:start", {**args, "method": n}) for n in METHODS if n not in told}
    with children(jobs) as all_of_them:
        for name, child in all_of_them.items():
            if "failed" in (said := started(child)):
                raise Failed(f"{name}: {said['failed']}")
        told |= alternate(all_of_them, lambda name, first: _repeats(case, first))
    for name in jobs:
        if seconds_of := settled(told[name]):
            work = METHODS[name].work(case, stacked)
            before[name].append((case, work, median(seconds_of)))
    return told, stacked


def _repeats(case: Case, first: float) -> int:
    """How often a method is done again after its first time."""
    if first > HEAVY:
        return 2 if case in (HEADLINE, TINY) and first < ONCE else 0
    return 5


def _too_long(
    name: str, case: Case, stacked: int, before: list[tuple[Case, float, float]]
) -> float | None:
    """The seconds that a method would take by the largest case before, where that is too long."""
    if not before:
        return None
    _, work, seconds = max(before, key=lambda one: one[1])
    estimate = seconds * METHODS[name].work(case, stacked) / work
    known = any(one.layer == case.layer for one, _, _ in before)
    return estimate if estimate > MOST or (known and estimate > ONCE) else None


def _rows(case: Case, stacked: int, told: Mapping[str, list[Answer]], floor: float) -> list[Row]:
    about: Row = {"layer": case.layer, "clients": case.clients, "uploads": case.spectrum}
    ours = median(settled(told[OURS])) if settled(told[OURS]) else None
    rows: list[Row] = [
        {**about, "method": "floor", "× ours": ours and floor / ours, "× floor": 1.0,
         "seconds": floor, "rank": stacked, "note": "rank: of the stacked uploads"}
    ]  # fmt: skip
    for name, answers in told.items():
        row: Row = {**about, "method": METHODS[name].words}
        rows.append(row)
        if not (seconds := settled(answers)):
            row["note"] = answers[-1]["failed"]
            continue
        middle, first = median(seconds), answers[0]
        row |= {"× ours": ours and middle / ours, "× floor": middle / floor, "seconds": middle,
                "times": len(seconds), "spread": spread(seconds), "peak MB": first["peak"] / 1e6,
                "error": first["error"], "rank": first["rank"]}  # fmt: skip
        if "failed" in answers[-1]:
            row["note"] = answers[-1]["failed"]
    return rows


def _ratios(found: Mapping[str, list[float]]) -> tuple[dict[str, float], dict[str, float]]:
    wanted = {
        "aggregation_vs_flexlora_4096_k100": (FLEXLORA, OURS),
        "aggregation_vs_qr_4096_k100": (QR_CORE, OURS),
        "aggregation_vs_svd_lowrank_4096_k100": (SVD, OURS),
        "aggregation_over_floor_4096_k100": (OURS, "floor"),
        "aggregation_over_floor_onednn_4096_k100": (OURS, "least"),
        "aggregation_one_pass_over_floor_4096_k100": (ONE_PASS, "floor"),
    }
    able = {k: (found[a], found[b]) for k, (a, b) in wanted.items() if a in found and b in found}
    return (
        {k: median(a) / median(b) for k, (a, b) in able.items()},
        {k: spread(a) + spread(b) for k, (a, b) in able.items()},
    )
