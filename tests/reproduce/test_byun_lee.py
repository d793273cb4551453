"""Byun & Lee's experiment: counts, what is asked for, and the words that its figures get."""

from pathlib import Path
from typing import Any

import pytest

from polyrank.reproduce import byun_lee, byun_lee_page, data, shapes

MIX = ((5, 0.9), (20, 0.1))


def test_parameters_are_the_papers() -> None:
    assert shapes.upload("DistilBERT", ((20, 1.0),)) == 552_960
    assert shapes.upload("DistilBERT", MIX) == pytest.approx(179_712)
    assert shapes.upload("ALBERT", ((20, 1.0),)) == 552_960 / 6  # its layers share their matrices


def row(label: str, seed: int, before: float, after: float) -> dict[str, Any]:
    low = {"id": "00", "rank": 5, "before": 0.9, "after": 0.9}
    high = {"id": "07", "rank": 20, "before": before, "after": after}
    return {
        "key": f"{label}{seed}", "part": "quick", "cell": "ag_news", "label": label, "seed": seed,
        "accuracy": after, "by_round": {"0": 0.25, "1": 0.6, "2": after},
        "probes": {"1": [low], "2": [low, high]}, "mb_up": 1.0, "mb_down": 2.0,
    }  # fmt: skip


def rows(zero: float, copy: float) -> list[dict[str, Any]]:
    return [
        row(label, s, 0.8, after + 0.01 * (s - 1))
        for label, after in (("zero-pad", zero), ("replicate", copy))
        for s in range(1, 6)
    ]


def test_the_first_aggregation_is_the_first_with_a_high_rank() -> None:
    assert byun_lee_page.first_aggregation(row("zero-pad", 0, 0.8, 0.3)) == (0.8, 0.3)
    none = {**row("zero-pad", 0, 0.8, 0.3), "probes": {}}
    assert byun_lee_page.first_aggregation(none) is None
    assert byun_lee_page.rounds_to(row("x", 0, 0.8, 0.75), 0.7) == 2
    assert byun_lee_page.rounds_to(row("x", 0, 0.8, 0.3), 0.7) is None


def test_the_verdict_follows_from_the_intervals() -> None:
    apart = " ".join(byun_lee_page.section(rows(0.3, 0.7)).text.split())
    assert "intervals after the first aggregation do not overlap: 32.0 ± 2.0 %" in apart
    assert "difference is reproduced" in apart
    assert "| ag_news | `zero-pad` | 5 | 80.0 ± 0.0 | 32.0 ± 2.0 | 84.34 → 38.95 |" in apart
    same = " ".join(byun_lee_page.section(rows(0.7, 0.7)).text.split())
    assert "overlap: 72.0" in same
    assert "not reproduced here" in same
    assert "179,712 | 0.69" in apart


def test_quick_takes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "subset", lambda name, *_: tmp_path / name)
    (stage,) = byun_lee.stages(tmp_path, quick=True)
    trials = stage([])
    assert {t.cell for t in trials} == {"docstrings"}
    assert {(t.label, t.seed) for t in trials} == {
        (label, seed) for label in byun_lee.PADDED for seed in range(1, 6)
    }
    (tmp_path / "ag_news").mkdir()
    assert {t.cell for t in byun_lee.stages(tmp_path, quick=True)[0]([])} == {"ag_news"}
    first, second = (s([]) for s in byun_lee.stages(tmp_path, quick=False))
    assert {t.label for t in first} == {*byun_lee.PADDED, *byun_lee.CONTROL, *byun_lee.EQUAL}
    assert {"catchup", "fedhl", "flora"} <= {t.label for t in second}
    assert not any(str(tmp_path) in t.key for t in first)  # results name no place of a machine
