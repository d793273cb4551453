import pytest

from polyrank.report import words
from polyrank.report.statistics import Estimate


def test_shares_are_written_as_percent():
    assert words.percent(0.6134) == "61.3 %"
    assert words.percent(None) == "–"
    assert words.with_interval(Estimate(0.6134, 0.0081, 3)) == "61.3 ± 0.8 %"
    assert words.with_interval(Estimate(0.6134, None, 1)) == "61.3 %"
    assert words.with_interval(Estimate(-0.021, None, 1), "+") == "−2.1 %"
    assert words.with_interval(Estimate(0.021, None, 1), "+") == "+2.1 %"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.01234, "0.0123"), (4.567, "4.57"), (12345.6, "12,346")]
)
def test_megabytes_keep_three_digits(value, text):
    assert words.megabytes(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.84, "0.8 s"),
        (41.7, "42 s"),
        (192.0, "3 min 12 s"),
        (7499.0, "2 h 4 min"),
        (59.9, "1 min 0 s"),
    ],
)
def test_durations_are_written_as_people_say_them(seconds, text):
    assert words.duration(seconds) == text


def test_rounds_are_joined_to_ranges():
    assert words.ranges([3, 1, 2, 7, 9, 10, 2]) == "1–3, 7, 9–10"
    assert words.ranges([]) == ""


def test_lists_end_in_and():
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.count(1, "seed") == "1 seed"
    assert words.count(2, "seed") == "2 seeds"
