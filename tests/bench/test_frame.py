"""A run of the benchmark at its tiny size: what it writes, what it keeps, what it compares."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import federation, frame, gpu
from bench.compare import NoBase, changes, committed
from bench.machine import ROOT
from bench.marks import MARKS
from bench.page import page
from bench.peers.plain import batches, rank_of
from bench.section import Limits, Row, Section

AGGREGATION = {"vs_flexlora", "vs_qr", "over_floor", "vs_svd_lowrank", "error_over_best"}
SIMULATION = {"g1", "auto_batch16", "auto_batch4"}


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of all sections but some writes (the third measures as the second does)."""
    folder = tmp_path_factory.mktemp("bench")
    into, text = folder / "latest.json", folder / "page.md"
    done = bench(
        "run", "--size", "tiny", "--threads", "1", "--into", str(into),
        "--only", "aggregation,choices,simulation,gpu,plan,billion", "--page", str(text),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(into.read_text())
    assert page(found) == text.read_text()
    return found


@pytest.mark.slow
def test_every_ratio_that_is_promised_is_there(tiny: dict[str, Any]) -> None:
    wanted = {f"aggregation_{name}_4096_k100" for name in AGGREGATION}
    wanted |= {f"simulation_vs_peft_{name}" for name in SIMULATION}
    assert wanted <= tiny["ratios"].keys()
    assert all(value > 0 or "error" in name for name, value in tiny["ratios"].items())
    known = {
        *tiny["ratios"], "simulation_vs_flower_64", "gpu_minilm_auto_vs_g1",
        "network_over_floor_1mb",
    }  # fmt: skip
    assert {mark.ratio.removesuffix("_bf16") for mark in MARKS} <= known


@pytest.mark.slow
def test_it_says_what_it_was_measured_with_but_not_whose_machine(tiny: dict[str, Any]) -> None:
    assert tiny["machine"]["threads"] == 1
    assert tiny["machine"]["memory_gib"] > 0
    assert {"python", "torch", "transformers", "peft", "flwr", "polyrank"} <= tiny[
        "versions"
    ].keys()
    assert os.uname().nodename not in json.dumps(tiny)
    assert str(ROOT) not in json.dumps(tiny)


@pytest.mark.slow
def test_every_method_has_a_row_or_a_reason(tiny: dict[str, Any]) -> None:
    rows = [row for section in tiny["sections"] for row in section["rows"]]
    shown = {"note", "seconds", "samples/s", "chosen", "planned", "plan MB"}
    assert all(shown & row.keys() for row in rows)
    (simulation,) = (one for one in tiny["sections"] if one["name"] == "simulation")
    simulated = [row for row in simulation["rows"] if row["dtype"] == "float32"]
    named = " ".join(row["method"] for row in simulated)
    assert all(word in named for word in ("plain PEFT", "FLoRA", "Flower", "one client", "auto"))
    flower = next(row for row in simulated if "Flower" in row["method"])
    assert flower.get("samples/s", 0) > 0 or "not installed" in flower["note"]


@pytest.mark.slow
def test_the_errors_of_a_run_are_those_of_the_best(tiny: dict[str, Any]) -> None:
    rows = {row["method"]: row for row in tiny["sections"][0]["rows"]}
    for name in ("dense sum, full SVD (FlexLoRA's code)", "**ours**: best approximation"):
        assert abs(rows[name]["error"]) < 1e-4
    assert rows["stack, at once"]["error"] == pytest.approx(-1, abs=1e-3)


def test_an_interrupted_run_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(quick: bool, limits: Limits) -> Section:
        limits.tell({"model": "one", "samples/s": 1.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "run", interrupted)
    said: list[Row | None] = []
    into = tmp_path / "latest.json"
    whole = frame.measure(["gpu"], "tiny", 1, into, lambda name, row: said.append(row))
    found = json.loads(into.read_text())
    assert not whole
    assert found["sections"][0]["interrupted"]
    assert found["sections"][0]["rows"] == [{"model": "one", "samples/s": 1.0}]
    assert said == [None, {"model": "one", "samples/s": 1.0}]
    assert "interrupted" in page(found)


def test_sections_that_are_not_measured_again_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(quick: bool, limits: Limits) -> Section:
        return Section("Title", [{"speed": 1.0}], {name: 1.0}, ["how to read it"])

    into = tmp_path / "latest.json"
    for name in ("wire", "gpu"):  # the other way round on the page
        monkeypatch.setattr(f"bench.{name}.run", once)
        frame.measure([name], "tiny", 1, into, lambda name, row: None)
    found = json.loads(into.read_text())
    assert [section["name"] for section in found["sections"]] == ["gpu", "wire"]
    assert found["ratios"] == {"wire": 1.0, "gpu": 1.0}
    text = page(found)
    assert text.count("how to read it") == text.count("Measured 2") == 2
    elsewhere = [{**one, "machine": {"cpu": "another"}} for one in found["sections"]]
    other = {**found, "machine": {"cpu": "another"}, "sections": elsewhere}
    into.write_text(json.dumps(other))
    frame.measure(["gpu"], "tiny", 1, into, lambda name, row: None)
    found = json.loads(into.read_text())
    assert [section["name"] for section in found["sections"]] == ["gpu", "wire"]
    assert page(found).count("on another machine (cpu another)") == 1


def test_a_missed_mark_says_no() -> None:
    found = {"ratios": {"aggregation_vs_flexlora_4096_k100": 99.0}, "spread": {}, "sections": []}
    about: dict[str, Any] = {"size": "full", "machine": {"cores": 2}, "versions": {"torch": "2"}}
    text = page({**about, **found})
    assert "| `aggregation_vs_flexlora_4096_k100` | 99 | ≥ 100 | **no** |" in text
    found["ratios"]["aggregation_vs_flexlora_4096_k100"] = 101.0
    assert "| 101 | ≥ 100 | yes |" in page({**about, **found})


def run_of(spread: float = 0.02, **ratios: float) -> dict[str, Any]:
    return {"ratios": ratios, "spread": dict.fromkeys(ratios, spread)}


@pytest.mark.parametrize(
    ("then", "now", "worse"),
    [
        (run_of(speed=2.0), run_of(speed=1.0), True),
        (run_of(speed=2.0), run_of(speed=3.0), False),
        (run_of(speed=2.0), run_of(speed=1.95), False),  # within 5 %
        (run_of(0.5, speed=2.0), run_of(0.5, speed=1.2), False),  # within the spread
        (run_of(x_over_floor=2.0), run_of(x_over_floor=3.0), True),  # less is better
        (run_of(x_over_floor=2.0), run_of(x_over_floor=1.0), False),
        (run_of(e_over_best=1e-9), run_of(e_over_best=1e-6), False),  # noise
        (run_of(speed=2.0), run_of(), False),  # not measured here
    ],
)
def test_what_got_worse_beyond_the_spread(
    then: dict[str, Any], now: dict[str, Any], worse: bool
) -> None:
    assert any(change.worse for change in changes(then, now)) == worse


def test_a_revision_without_results_is_refused() -> None:
    with pytest.raises(NoBase, match="no-such-revision has no bench/results/latest"):
        committed("no-such-revision")
    done = bench("compare", "no-such-revision")
    assert done.returncode == 2
    assert "measure it here and now" in " ".join(done.stderr.split())


def test_every_text_has_the_length_that_is_said(tmp_path: Path) -> None:
    setting = federation.Setting(3, 1.0, 2, 4, 16)
    args = federation.write(tmp_path, setting)
    each = batches(args)
    assert len(each) == 3
    assert [len(own) for own in each] == [2, 2, 2]
    for batch in (batch for own in each for batch in own):
        assert batch["input_ids"].shape == (4, 16)
        assert batch["attention_mask"].all()
    assert {rank_of(client) for client in range(10)} == set(federation.RANKS)


def test_files_of_the_benchmark_stay_small() -> None:
    counts = {p.name: len(p.read_text().splitlines()) for p in (ROOT / "bench").rglob("*.py")}
    assert max(counts.values()) <= 240, counts
