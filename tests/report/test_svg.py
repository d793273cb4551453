"""Static charts: values land where the axes say, and nothing a name holds can break the file."""

from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from polyrank.report.axis import Axis, airy, spanning
from polyrank.report.panels import Line, Panel
from polyrank.report.svg import chart
from polyrank.report.toy_plots import by_round, by_traffic, drawn, rates
from polyrank.reproduce.toy import Setting
from polyrank.reproduce.toy_figures import convergence
from polyrank.reproduce.toy_runs import Method

SPACE = "{http://www.w3.org/2000/svg}"
RISING = Line("<a & b>", [1.0, 10.0, 100.0], [0.1, None, 10.0], ["", "", ""], "#0072B2", "dash")


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter(f"{SPACE}text")]


def test_a_logarithmic_axis_puts_equal_ratios_equally_far_apart() -> None:
    axis = Axis(0.1, 10.0, 300.0, 100.0, log=True)
    assert [axis(v) for v in (0.1, 1.0, 10.0)] == pytest.approx([300.0, 200.0, 100.0])
    assert axis.ticks() == pytest.approx([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
    assert Axis(0.0, 10.0, 0.0, 100.0, log=False)(2.5) == 25.0


def test_an_axis_spans_what_it_can_show_with_some_air() -> None:
    axis = spanning([0.0, 1.0, 100.0, float("inf")], 0.0, 1.0, log=True)
    assert (axis.low, axis.high) == (1.0, 100.0)
    assert airy(axis)(1.0) == pytest.approx(0.05 / 1.05)
    assert airy(replace(axis, log=False))(1.0) == pytest.approx(0.05 / 1.05)
    one = spanning([3.0, 3.0], 0.0, 1.0, log=False)
    assert one.ticks() == pytest.approx([2.0, 2.5, 3.0, 3.5, 4.0])


def test_names_are_escaped_and_missing_values_are_left_out() -> None:
    panel = Panel("<title>", "x & y", "z", [RISING], log_x=True, log_y=True)
    svg = chart(panel)
    assert "<a & b>" in texts(svg)
    assert {"<title>", "x & y", "z"} <= set(texts(svg))
    (line,) = [p for p in ElementTree.fromstring(svg).iter(f"{SPACE}g") if p.find(f"{SPACE}title")
               is not None]  # fmt: skip
    path = line.find(f"{SPACE}path")
    assert path is not None
    assert path.get("d", "").count("L") == 1


def test_names_do_not_overlap() -> None:
    many = [replace(RISING, name=f"n{i}") for i in range(40)]
    root = ElementTree.fromstring(chart(Panel("", "", "", many, log_x=True, log_y=True)))
    heights = sorted(
        float(e.get("y", "")) for e in root.iter(f"{SPACE}text") if (e.text or "")[:1] == "n"
    )
    assert len(heights) == 40
    assert min(b - a for a, b in pairwise(heights)) >= 17.9
    assert heights[-1] < float(root.get("height", ""))


def test_a_panel_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="no line has a point"):
        chart(Panel("", "", "", [replace(RISING, y=[0.0, None, -1.0])], log_y=True))


def test_the_toy_problem_is_drawn_both_ways() -> None:
    small = Setting(size=8, ranks=(3, 1), steps=2)
    data = convergence([Method("flora"), Method("fedit")], small, 3, [0, 1], [0.05])
    for panel in (by_round(data), by_traffic(data), rates(data)):
        assert {"flora", "fedit, rank 2"} <= set(texts(chart(panel)))
    assert "1/√T" in texts(chart(rates(data)))
    assert {t.name for t in drawn(data).data if t.showlegend} >= {"flora", "fedit, rank 2", "1/√T"}
