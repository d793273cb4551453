"""The benchmark's section on rounds over a network, on a real federation of one node."""

import pytest

from bench.loopback import Told
from bench.marks import MARKS
from bench.network import SHAPE, TINY, run
from bench.section import Limits


@pytest.mark.slow
def test_floor_and_ours_each_have_rounds_that_were_timed() -> None:
    told: list[object] = []
    limits = Limits(1, {"float32": 1e10, "bfloat16": 1e9}, 5e9, tiny=True, tell=told.append)
    section = run(True, limits)
    assert told == section.rows
    floor, ours = section.rows
    assert (floor["app"], ours["app"]) == ("floor", "ours")
    assert ours["s a round"] > ours["node s"] > 0
    assert floor["s a round"] > 1  # a process was started
    assert ours["MB each way"] * 1e6 > TINY.factors(TINY.rank)
    for row in section.rows:
        assert row["server MB, last"] >= row["server MB, first"] > 10
    ratio = section.ratios["network_over_floor_1mb"]
    assert ratio == ours["s a round"] / floor["s a round"]
    assert any(mark.ratio == "network_over_floor_1mb" for mark in MARKS)


def test_the_model_has_factors_of_the_size_that_is_said() -> None:
    assert SHAPE.factors(SHAPE.rank) == pytest.approx(1e6, rel=1e-3)
    assert SHAPE.factors(100 * SHAPE.rank) == pytest.approx(1e8, rel=1e-3)


def test_seconds_are_between_the_ends_of_rounds() -> None:
    told = Told(at=[0.0, 100.0, 101.0, 103.0, 104.0, 200.0])
    seconds, spread = told.seconds(slice(1, 5))
    assert seconds == pytest.approx(4 / 3)
    assert spread == 1.0
