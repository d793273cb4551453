import pytest

from polyrank.report import aggregation, diagnostics, maps, plots, spectra, traffic
from polyrank.report.clients import truncation, weight
from polyrank.report.panels import Heat
from polyrank.report.records import RunRecords
from polyrank.report.statistics import grouped
from polyrank.report.style import COLOURS, colour, dash, indices
from tests.report.synthetic import run_records

LABELS = ("zero-pad", "fedhl", "flora")


@pytest.fixture(scope="module")
def groups():
    return grouped([run_records(label, seed) for label in LABELS for seed in range(3)])


def test_the_curves_show_means_with_bands_and_one_legend_entry_a_label(groups):
    figure = plots.curves(groups)
    lines = [t for t in figure.data if t.mode != "lines" or t.fill is None]
    bands = [t for t in figure.data if t.fill == "toself"]
    assert len(lines) == len(bands) == 4 * len(LABELS)
    assert sorted(t.name for t in lines if t.showlegend) == sorted(LABELS)
    first = next(t for t in lines if t.name == "fedhl")
    accuracies = [run.rounds[-1]["test"]["accuracy"] for run in groups["fedhl"]]
    assert first.y[-1] == pytest.approx(100 * sum(accuracies) / 3)


def test_a_band_stays_between_nothing_and_everything():
    runs = [run_records("a", seed, peak=peak) for seed, peak in enumerate((0.2, 0.9))]
    band = next(t for t in plots.curves(grouped(runs)).data if t.fill == "toself")
    assert min(band.y) == 0
    assert max(band.y) == 100


def test_a_single_seed_has_no_band():
    figure = plots.curves(grouped([run_records()]))
    assert not [t for t in figure.data if t.fill]
    assert not figure.layout.showlegend


def test_a_far_dearer_algorithm_makes_the_mb_axis_logarithmic(groups):
    assert plots.curves(groups).layout.xaxis2.type == "log"
    cheap = {label: groups[label] for label in ("zero-pad", "fedhl")}
    assert plots.curves(cheap).layout.xaxis2.type == "linear"


def test_a_label_keeps_its_colour_whatever_the_order(groups):
    def colours(some):
        return {t.name: t.line.color for t in plots.curves(some).data if t.showlegend}

    assert colours(groups) == colours(dict(reversed(groups.items())))


def test_colours_and_dashes_tell_more_labels_apart_than_there_are_algorithms():
    looks = {(colour(i), dash(i)) for i in indices(str(n) for n in range(21)).values()}
    assert len(looks) == 21
    assert len(set(COLOURS)) == 7


def test_words_in_a_figure_are_escaped():
    evil = "<a href='https://example.org'>x</a>"
    figure = plots.curves(grouped([run_records(evil), run_records("b")]))
    said = [t.name for t in figure.data if t.showlegend] + list(figure.data[0].hovertext)
    assert any("&lt;a" in text for text in said)
    assert not any("<a" in text for text in said)


def test_the_traffic_adds_up(groups):
    figure = traffic.traffic(groups)
    at = list(figure.data[0].y).index("flora")
    run = groups["flora"][0]
    assert sum(bar.x[at] for bar in figure.data) == pytest.approx(run.up[-1] + run.down[-1])


def test_the_label_map_holds_every_example():
    run = run_records(clients=6)
    heat = plots.labels_by_client(run).data[0]
    assert sum(map(sum, heat.z)) == 6 * 80
    assert list(heat.x) == ["0 (r 2)", "4 (r 2)", "1 (r 4)", "5 (r 4)", "2 (r 8)", "3 (r 16)"]


def with_info(label, **info):
    """A run whose every trained round reports this."""
    run = run_records(label)
    rounds = tuple({**r, "info": info if r["round"] else {}} for r in run.rounds)
    return RunRecords(run.run, rounds, run.final)


def with_probes(label, *sides):
    """A run with one probed client, (before, after) in each round."""
    run = run_records(label, rounds=len(sides))
    probes = [[], *([{"id": "3", "rank": 16, "before": b, "after": a}] for b, a in sides)]
    rounds = tuple({**r, "probes": p} for r, p in zip(run.rounds, probes, strict=True))
    return RunRecords(run.run, rounds, run.final)


def test_the_weight_of_a_slots_holders_is_a_mean_over_rounds_and_its_lines_are_drawn_once():
    runs = [with_info(label, dilution=p) for label, p in
            {"a": [1.0, 0.5], "b": [1.0, 0.5], "c": [1.0, 1.0, 0.25]}.items()]  # fmt: skip
    figure = aggregation.shares(grouped(runs))
    drawn = {t.name: list(t.y) for t in figure.data if t.xaxis == "x"}
    assert drawn == {"a and b": [1.0, 0.5], "c": [1.0, 1.0, 0.25]}
    assert figure.data[0].hovertext[0].endswith("and so b")
    first = with_info("d", dilution=[1.0, 0.6])
    rounds = (*first.rounds[:-1], {**first.rounds[-1], "info": {"dilution": [1.0]}})
    shorter = aggregation.shares(grouped([RunRecords(first.run, rounds, first.final)]))
    assert list(shorter.data[0].y) == [1.0, pytest.approx(0.4)]


def test_a_collapse_is_negative_and_stands_in_the_map_in_points():
    groups = grouped([with_probes("a", (0.9, 0.3), (0.9, 0.95)), with_probes("b", (0.5, 0.5))])
    heat = aggregation.change(groups).data[0]
    assert list(heat.y) == ["a", "b"]
    assert list(heat.z[0]) == [pytest.approx(-60), pytest.approx(5)]
    assert list(heat.z[1]) == [0.0, None]
    scale = aggregation.change(groups).layout.coloraxis
    assert (scale.cmin, scale.cmax) == (pytest.approx(-60), pytest.approx(60))
    assert "−60.00 points" in heat.hovertext[0][0]


def test_before_and_after_are_two_lines_in_a_panel_for_each_label():
    groups = grouped([with_probes("a", (0.9, 0.3)), with_probes("b", (0.5, 0.6)), run_records()])
    figure = aggregation.before_and_after(groups)
    assert [a.text for a in figure.layout.annotations] == ["a", "b", "fedhl"]
    assert [(t.name, t.y[0]) for t in figure.data[:4]] == [
        ("just before", 90), ("just after", 30), ("just before", 50), ("just after", 60)
    ]  # fmt: skip


def test_eighteen_labels_differ_in_colour_or_dash_in_every_figure_of_lines():
    groups = grouped([run_records(f"fedhl-{i}") for i in range(18)])
    for figure in (plots.curves(groups), diagnostics.reported(groups), aggregation.shares(groups)):
        looks = {(t.line.color, t.line.dash) for t in figure.data if t.name.startswith("fedhl")}
        assert len(looks) == 18


def test_weights_are_drawn_where_an_algorithm_reports_them(groups):
    drawn = diagnostics.by_client(groups, weight, "weight").data
    fedhl = next(heat for heat in drawn if "fedhl" in heat.hovertext[0][0])
    assert fedhl.z[0][0] == groups["fedhl"][0].rounds[1]["clients"][0]["weight"]
    assert len(drawn) == len(LABELS)
    assert diagnostics.by_client({"flora": groups["flora"]}, truncation, "E") is None


def test_labels_with_the_same_weights_share_a_map_unless_their_ranks_differ():
    runs = [RunRecords({**run_records().run, "label": label}, run_records().rounds)
            for label in ("a", "b")]  # fmt: skip
    figure = diagnostics.by_client(grouped(runs), weight, "weight")
    assert [a.text for a in figure.layout.annotations] == ["a and b"]
    clients = [{**c, "rank": 3} for c in runs[1].run["clients"]]
    rounds = tuple(
        {**r, "clients": [{**c, "rank": 3} for c in r["clients"]]} for r in runs[1].rounds
    )
    other = RunRecords({**runs[1].run, "clients": clients}, rounds)
    figure = diagnostics.by_client(grouped([runs[0], other]), weight, "weight")
    assert [a.text for a in figure.layout.annotations] == ["a", "b"]


def test_reported_numbers_have_a_panel_each_with_the_participants_beside_n_eff(groups):
    figure = diagnostics.reported(groups)
    assert figure.layout.annotations[0].text.startswith("Effective number of clients")
    dotted = next(t for t in figure.data if t.name == "clients in the round")
    assert list(dotted.y) == [4, 4, 4]
    assert diagnostics.reported({"flora": groups["flora"]}) is None


def test_a_spectrum_that_is_all_zero_is_left_out_and_a_zero_ends_the_line():
    run = run_records(rounds=1)
    zero = {"values": [0.0, 0.0], "effective_rank": 0.0}
    some = {"values": [2.0, 0.0], "effective_rank": 1.0}
    rounds = tuple({**r, "spectrum": s} for r, s in zip(run.rounds, (zero, some), strict=True))
    figure = spectra.spectra({"a": [RunRecords(run.run, rounds, run.final)]})
    assert [t.name for t in figure.data] == ["round 1"]
    assert list(figure.data[0].y) == [2.0, None]


def test_layers_are_shown_by_round_for_one_label_and_by_label_for_several(groups):
    alone = spectra.layers({"fedhl": groups["fedhl"]}).data[0]
    assert list(alone.x) == ["0", "1", "2", "3"]
    assert alone.y[0] == "0.attention.self.query"
    assert set(spectra.layers(groups).data[0].x) == set(LABELS)


def test_nothing_to_show_is_no_figure():
    nothing = {"a": [RunRecords(run_records().run)]}
    drawn = (plots.curves, plots.by_rank, traffic.traffic, diagnostics.reported)
    spectral = (spectra.ranks_and_last_spectrum, spectra.spectra, spectra.layers)
    steps = (aggregation.shares, aggregation.change, aggregation.before_and_after)
    assert [draw(nothing) for draw in (*drawn, *spectral, *steps)] == [None] * 10


def test_few_far_values_do_not_hide_the_others_in_a_map():
    def limit(*values):
        heat = Heat("", "", "", [str(i) for i in range(len(values))], ["y"], [values], [[""] * 20])
        return maps.heats([heat], 1, "E").layout.coloraxis

    even = limit(*[0.1 * i for i in range(20)])
    assert (even.cmax, even.colorbar.title.text) == (pytest.approx(1.9), "E")
    cut = limit(*[0.1 * i for i in range(19)], 50.0)
    assert cut.cmax == pytest.approx(1.8)
    assert cut.colorbar.title.text == "E (dark: more)"
    assert limit(0.0, None).cmax == 1.0
