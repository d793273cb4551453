import pytest

from polyrank.errors import StorageError
from polyrank.report.records import RunRecords
from polyrank.report.statistics import curve, estimate, grouped, rounds_to, summary
from tests.report.synthetic import run_records


def measured(label, seed, *accuracies, finished=True, name="demo"):
    """A run with exactly these accuracies, the first of them before training."""
    run = run_records(label, seed, clients=2, rounds=len(accuracies) - 1, name=name)
    rounds = tuple(
        {**record, "test": {"loss": 1 - accuracy, "accuracy": accuracy}}
        for record, accuracy in zip(run.rounds, accuracies, strict=True)
    )
    final = {**run.final, "test": rounds[-1]["test"]} if finished else None
    return RunRecords(run.run, rounds, final)


def test_the_interval_is_students():
    three = estimate([1.0, 2.0, 3.0])  # s = 1, t(2) = 4.302653
    assert (three.mean, three.n) == (2.0, 3)
    assert three.half == pytest.approx(4.302652729911275 / 3**0.5)
    two = estimate([1.0, 2.0])  # s = 1/√2, t(1) = 12.706205
    assert two.half == pytest.approx(12.706204736432095 / 2)
    assert two.low == pytest.approx(1.5 - two.half)


def test_one_seed_has_no_interval_and_no_seed_no_estimate():
    assert estimate([0.4]).half is None
    assert estimate([0.4]).low == estimate([0.4]).high == 0.4
    assert estimate([]) is None


def test_rounds_to_a_target_counts_the_first_measured_round():
    run = measured("a", 0, 0.1, 0.4, 0.6, 0.5, 0.7)
    assert rounds_to(run, 0.5) == 2
    assert rounds_to(run, 0.1) == 0
    assert rounds_to(run, 0.8) is None


def test_a_row_holds_means_over_seeds():
    runs = [measured("a", 0, 0.1, 0.3, 0.6), measured("a", 1, 0.2, 0.5, 0.8)]
    row = summary(runs, target=0.5)[0]
    assert row.score.mean == pytest.approx(0.7)
    assert row.score.half == pytest.approx(12.706204736432095 * 0.1)
    assert row.gain.mean == pytest.approx(0.55)  # (0.5 + 0.6) / 2
    assert row.rounds_to_target == pytest.approx(1.5)
    assert (row.seeds, row.missed, row.unfinished) == (2, 0, 0)
    assert row.mb_up == pytest.approx(2 * (3000 * 6 + 2 * 16300) / 1e6)
    assert row.seconds == 42.5


def test_a_target_that_one_seed_missed_has_no_mean():
    runs = [measured("a", 0, 0.1, 0.6), measured("a", 1, 0.1, 0.4)]
    row = summary(runs, target=0.5)[0]
    assert (row.rounds_to_target, row.missed) == (None, 1)


def test_rows_are_ordered_best_first_and_touching_intervals_share_places():
    scores = {"far": (0.20, 0.21), "best": (0.90, 0.91), "near": (0.88, 0.89)}
    runs = [measured(a, s, 0.1, score) for a, two in scores.items() for s, score in enumerate(two)]
    rows = summary(runs)
    assert [(row.label, row.places) for row in rows] == [
        ("best", (1, 2)),
        ("near", (1, 2)),
        ("far", (3, 3)),
    ]


def test_places_of_a_chain_of_overlaps_tell_what_is_possible():
    # half intervals of ±0.0635: top and bottom do not touch, the middle one touches both
    runs = [
        measured(label, seed, 0.1, mean + 0.005 * sign)
        for label, mean in (("top", 0.6), ("middle", 0.5), ("bottom", 0.4))
        for seed, sign in enumerate((-1, 1))
    ]
    assert [row.places for row in summary(runs)] == [(1, 2), (1, 3), (2, 3)]


def test_a_single_seed_gets_no_place_but_its_order():
    rows = summary([measured("a", 0, 0.1, 0.5), measured("b", 0, 0.1, 0.6)])
    assert [(row.label, row.places) for row in rows] == [("b", None), ("a", None)]


def test_unfinished_runs_do_not_count_beside_finished_ones():
    stopped = measured("a", 1, 0.1, 0.2)
    stopped = RunRecords(stopped.run, stopped.rounds[:1])
    runs = [measured("a", 0, 0.1, 0.6), stopped]
    row = summary(runs)[0]
    assert (row.seeds, row.unfinished, row.finished) == (1, 1, True)
    assert row.score.mean == 0.6
    assert [p.value.n for p in curve(runs, lambda r: r["test"]["accuracy"])] == [1, 1]


def test_a_label_without_a_finished_run_comes_last_with_its_figures_so_far():
    rows = summary([measured("a", 0, 0.1, 0.9, finished=False), measured("b", 0, 0.1, 0.2)])
    assert [(row.label, row.finished, row.places) for row in rows] == [
        ("b", True, None),
        ("a", False, None),
    ]
    assert rows[1].score.mean == 0.9


def test_a_curve_skips_rounds_without_a_measurement():
    run = measured("a", 0, 0.1, 0.2, 0.3)
    unmeasured = {**run.rounds[1], "test": None}
    run = RunRecords(run.run, (run.rounds[0], unmeasured, run.rounds[2]), run.final)
    points = curve([run], lambda r: r["test"]["accuracy"] if r["test"] else None)
    assert [(p.round, p.value.mean) for p in points] == [(0, 0.1), (2, 0.3)]
    assert points[1].mb == pytest.approx(2 * run.up[1] * 2)


def test_one_label_in_two_experiments_becomes_two_groups():
    runs = [measured("a", 0, 0.1, 0.5, name="one"), measured("a", 0, 0.1, 0.5, 0.6, name="two")]
    assert set(grouped(runs)) == {"a (one)", "a (two)"}


def test_seeds_of_one_experiment_may_have_names_of_their_own():
    runs = [measured("a", s, 0.1, 0.5, name=f"run-{s}") for s in (1, 0)]
    assert [run.seed for run in grouped(runs)["a"]] == [0, 1]


def test_the_same_run_twice_is_not_two_seeds():
    with pytest.raises(StorageError, match=r"'demo', 'demo' of a \(demo\) are no seeds"):
        summary([measured("a", 0, 0.1, 0.5)] * 2)


def judged_by_loss(label, seed, *losses, finished=True):
    """A run of a language model with exactly these losses, the first of them before training."""
    run = measured(label, seed, *(1 - loss for loss in losses), finished=finished)
    return RunRecords({**run.run, "metric": "loss"}, run.rounds, run.final)


def test_of_a_loss_less_is_better():
    ends = (("worse", 2.0), ("best", 1.0), ("bad", 2.5))
    runs = [
        judged_by_loss(name, seed, 3.0, loss + 0.001 * seed)
        for name, loss in ends
        for seed in range(3)
    ]
    rows = summary(runs, target=1.5)
    assert [(row.label, row.places) for row in rows] == [
        ("best", (1, 1)), ("worse", (2, 2)), ("bad", (3, 3)),
    ]  # fmt: skip
    assert rows[0].score.mean == pytest.approx(1.001)
    assert rows[0].gain.mean == pytest.approx(1.999)
    assert (rows[0].rounds_to_target, rows[1].missed) == (1, 3)


def test_an_unmeasured_loss_comes_last():
    blank = judged_by_loss("blank", 0, 3.0, 2.0)
    nothing = tuple({**record, "test": None} for record in blank.rounds)
    blank = RunRecords(blank.run, nothing, {**blank.final, "test": None})
    assert [row.label for row in summary([blank, judged_by_loss("a", 0, 3.0, 2.9)])] == [
        "a",
        "blank",
    ]


def test_runs_of_different_metrics_do_not_compare():
    with pytest.raises(StorageError, match=r"judged by accuracy and loss per token.* one by one"):
        summary([measured("a", 0, 0.1, 0.2), judged_by_loss("b", 0, 3.0, 2.0)])
