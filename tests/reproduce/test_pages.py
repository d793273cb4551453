"""The pages of results: numbers and verdicts follow from rows; what is missing is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyrank import algorithms
from polyrank.report.statistics import Estimate, estimate
from polyrank.reproduce import (
    catchup,
    catchup_page,
    data,
    fedhl,
    fedhl_page,
    frozen_head,
    frozen_head_page,
    tables,
    toy_page,
)
from polyrank.reproduce.grid import Row, Trial
from polyrank.reproduce.toy import Setting
from polyrank.reproduce.toy_figures import convergence
from polyrank.reproduce.toy_laws import decay, exactness
from polyrank.reproduce.toy_runs import Method

NOWHERE = Path("/nowhere")
CELL = "silo, harsh, dirichlet(0.5), banking77"
Score = Callable[[Trial], float]


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "subset", lambda name, *_: NOWHERE / name)


def row(trial: Trial, accuracy: float) -> Row:
    """A row as grid.summary makes it; FLoRA downloads ten times what others do."""
    down = 200.0 if trial.label == "flora" else 20.0
    own = {"part": trial.part, "cell": trial.cell, "label": trial.label, "seed": trial.seed}
    return {"key": trial.key, **own, "accuracy": accuracy, "mb_up": 20.0, "mb_down": down}


def tuned(trials: list[Trial]) -> list[Row]:
    """The grid, in which 1e-3 wins for all."""
    return [row(t, 0.6 if t.cell.endswith(" 1e-3") else 0.3) for t in trials]


def score(better: dict[str, float]) -> Score:
    """Half, more for some labels, a little by seed and label."""

    def of(t: Trial) -> float:
        wobble = (t.seed * 7 + len(t.label) * 3) % 5
        return 0.5 + 0.001 * wobble + better.get(t.label, 0.0)

    return of


def played(better: dict[str, float], cells: tuple[str, ...] = (CELL,)) -> list[Row]:
    grid = tuned(list(fedhl.chosen_by(NOWHERE)))
    of = score(better)
    return [*grid, *(row(t, of(t)) for t in fedhl.runs(NOWHERE, grid) if t.cell in cells)]


def caught_up(better: dict[str, float]) -> list[Row]:
    grid, of = tuned(list(catchup.chosen_by(NOWHERE))), score(better)
    return [*grid, *(row(t, of(t)) for t in catchup.runs(NOWHERE, grid))]


def line(text: str, start: str) -> str:
    (found,) = [part for part in text.splitlines() if part.startswith(start)]
    return found


def flat(text: str) -> str:
    return " ".join(text.split())


def test_fedhl_without_rows_says_that_nothing_was_run() -> None:
    found = fedhl_page.section([])
    assert found.text.startswith("## FedHL: cross-silo and cross-device\n")
    assert found.text.count("Not run yet.") == 6
    assert not found.figures


def test_only_cells_with_all_seeds_are_shown() -> None:
    other = "silo, harsh, dirichlet(0.5), dbpedia14"
    rows = [r for r in played({}, (CELL, other))
            if (r["cell"], r["label"], r["seed"]) != (other, "flora", 4)]  # fmt: skip
    text = fedhl_page.section(rows).text
    head = line(text, "| algorithm | banking77")
    assert head == "| algorithm | banking77<br>dirichlet(0.5) | MB up | MB down |"
    assert "Not run yet: dirichlet(0.5), dbpedia14; dirichlet(0.5), ag_news;" in flat(text)
    assert len([part for part in text.splitlines() if part.startswith("| `flora` |")]) == 3


def test_a_quick_run_is_shown_with_its_three_seeds() -> None:
    rows = [r for r in played({}) if r["part"] == "grid" or r["seed"] < 3]
    assert "over 3 seeds" in flat(fedhl_page.section(rows).text)


def test_a_cell_is_the_mean_and_the_interval_over_seeds() -> None:
    rows = played({"flora": 0.1})
    values = [r["accuracy"] for r in rows if r["label"] == "flora" and r["part"] == "runs"]
    wanted = estimate(values)
    assert wanted is not None
    assert wanted.half is not None
    told = f"{100 * wanted.mean:.1f} ± {100 * wanted.half:.1f}"
    text = fedhl_page.section(rows).text
    assert f"| `flora` | **{told}** | 20 | 200 |" in text
    table = text[text.index("### Cross-silo, harsh ranks") :]
    assert table[table.index("| `") :].startswith("| `flora`")


def test_what_overlaps_the_best_is_a_tie() -> None:
    values = {
        "a": Estimate(0.6, 0.02, 5),
        "b": Estimate(0.57, 0.01, 5),
        "c": Estimate(0.5, 0.02, 5),
    }
    assert tables.ties(values) == {"a", "b"}
    assert tables.ties(values, least=True) == {"c"}
    assert tables.ties({}) == set()


@pytest.mark.parametrize(
    ("better", "word"),
    [
        ({"fedhl": 0.02}, "holds"),
        ({"fedhl": 0.02, "flora": 0.05}, "does not hold"),
        ({"fedhl": 0.005}, "does not hold"),  # ahead, but by less than a point
        ({}, "is a tie with all"),
    ],
)
def test_the_verdict_on_fedhl_follows_from_the_rows(better: dict[str, float], word: str) -> None:
    assert f"over the others **{word}** under harsh ranks" in flat(
        fedhl_page.section(played(better)).text
    )


def test_a_verdict_without_a_loss_may_be_a_tie() -> None:
    gaps = {"a": Estimate(0.02, 0.01, 9), "b": Estimate(0.0, 0.01, 9)}
    told = fedhl_page.verdict("mild", gaps)
    assert "**is a tie with some**" in told
    assert told.endswith("ahead of 1 of 2. It is ahead of `a`; a tie with `b`.")


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5), st.floats(-0.2, 0.2))
def test_a_paired_difference_forgets_what_a_seed_does_to_both(
    seeds: list[float], gap: float
) -> None:
    found = {}
    for seed, base in enumerate(seeds):
        found["a", "x", seed] = {"accuracy": base + gap}
        found["b", "x", seed] = {"accuracy": base}
    told = tables.paired(found, "a", "b", ["x"], range(5))
    assert told.mean == pytest.approx(gap, abs=1e-12)
    assert told.half == pytest.approx(0, abs=1e-12)


def test_the_winning_rate_is_bold_once_all_were_tried() -> None:
    rows = tuned(list(fedhl.chosen_by(NOWHERE)))
    text = fedhl_page.section(rows).text
    assert line(text, "| `flora`") == "| `flora` | 30.0 | **60.0** | 30.0 | 30.0 |"
    few = [r for r in rows if (r["label"], r["cell"]) != ("flora", "ag_news lr 1e-3")]
    text = fedhl_page.section(few).text
    assert line(text, "| `flora`") == "| `flora` | 30.0 | – | 30.0 | 30.0 |"
    assert "Not finished: `flora`." in flat(text)


def test_the_figure_names_every_algorithm() -> None:
    (svg,) = fedhl_page.section(played({})).figures.values()
    assert all(f">{name}</text>" in svg for name in algorithms.names())


def test_catchup_stands_alone_on_fedhl_s_own_trials() -> None:
    grid = tuned(list(catchup.chosen_by(NOWHERE)))
    trials = list(catchup.runs(NOWHERE, grid))
    assert len({t.key for t in trials}) == len(trials)
    theirs = {t.key for t in fedhl.runs(NOWHERE, grid)}
    runs = [t for t in trials if t.part == "runs"]
    assert {t.key for t in runs} <= theirs
    assert len(runs) == 9 * 5 * 6
    assert {t.label for t in trials if t.part == "sweep"} == set(catchup.VARIANTS)
    assert {t.cell for t in trials if t.part != "runs"} == set(catchup.OPEN)


def test_a_variant_has_its_options_and_its_own_rate() -> None:
    rows = tuned(list(catchup.chosen_by(NOWHERE)))
    for r in rows:
        if r["label"] == "catchup:start=random:down=2":
            r["accuracy"] = 0.9 if r["cell"].endswith(" 4e-3") else 0.1
    (one, *_) = [t for t in catchup.runs(NOWHERE, rows) if t.label == "catchup:start=random:down=2"]
    assert one.overrides[-2:] == ("algorithm.down=2.0", "local.lr=4e-3")
    assert "algorithm=catchup" in one.overrides


def test_quick_catchup_is_one_cell_and_three_seeds() -> None:
    grid, chosen = catchup.stages(NOWHERE, quick=True)
    trials = chosen(tuned(grid([])))
    assert {t.cell for t in trials} == {catchup.OPEN[0]}
    assert {t.seed for t in trials} == {0, 1, 2}


def test_catchup_s_claim_where_it_holds() -> None:
    text = flat(catchup_page.section(caught_up({"catchup": 0.02, "flora": 0.01})).text)
    assert "At most an eighth of FLoRA's download **holds**: it is 0.100 to 0.100" in text
    assert "“FLoRA's accuracy or better” **holds**: +1." in text
    assert "Against `flora` it is ahead in 6 of 6 cells, behind in 0" in text
    assert "Against `flora` it is ahead in 3 of 3 cells, behind in 0" in text
    assert "“Better than FedHL” **holds**" in text
    assert "Their traffic is equal: 40 MB against 40 MB." in text
    assert "Not run yet" not in text


def test_catchup_s_claim_where_it_does_not_hold() -> None:
    rows = caught_up(
        {"flora": 0.05, "catchup:start=random:down=2": 0.03, "catchup:tau=0.99": -0.03}
    )
    for r in rows:
        if r["label"] == "flora":
            r["mb_down"] = 100.0
    text = flat(catchup_page.section(rows).text)
    assert "**does not hold**: it is 0.200 to 0.200" in text
    assert "“FLoRA's accuracy or better” **does not hold**: −" in text
    assert "Better than `catchup` as it is: `catchup:start=random:down=2`;" in text
    assert "worse: `catchup:tau=0.99`." in text


def test_a_tie_says_how_much_it_may_hide() -> None:
    gap = Estimate(0.001, 0.005, 45)
    told = catchup_page.accuracy(gap, "Better than FedHL", "fedhl", strict=True)
    assert "**is a tie**: +0.1 ± 0.5 points against `fedhl` over 45 pairs" in told
    assert "allows 0.4 points less. A tie is not better." in told


def test_catchup_without_rows_says_that_nothing_was_run() -> None:
    assert catchup_page.section([]).text.count("ot run yet") == 5


SMALL = Setting(size=8, ranks=(4, 2, 1), decay=0.8, steps=2)


def toy_data() -> dict[str, Any]:
    methods = [Method("catchup"), Method("flora"), Method("fedhl")]
    course = convergence(methods, SMALL, rounds=4, seeds=range(2), grid=(0.05, 0.1))
    laws = {"decay": decay(SMALL, rounds=3), "exactness": exactness(SMALL, rounds=3)}
    return {"convergence": course, "sweep": course, **laws}


def test_the_toy_page_tells_its_data() -> None:
    told = toy_data()
    found = toy_page.section(told)
    row = next(r for r in told["convergence"]["rows"] if r["label"] == "fedhl")
    end = row["excess"][-1]
    assert f"{end['mean']:.4f} ± {end['half']:.4f}" in found.text
    for name in found.figures:
        assert f"(figures/{name})" in found.text
    assert len(found.figures) == 3
    assert "| `flexlora` | 1 | 1.000 (1.000) |" in found.text
    assert "Not exact in the first: `fed-sb`; in a later one: none." in flat(found.text)


def test_the_toy_page_names_what_was_not_run() -> None:
    found = toy_page.section({"convergence": None, "sweep": None})
    assert found.text.count("ot run yet.") == 4
    assert not found.figures


def told(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "half": half}


def test_the_rate_follows_from_slopes_and_drifts() -> None:
    rows: list[dict[str, Any]] = [
        {"label": "still", "slope": told(-0.6, 0.02), "drift": told(0.0, 0.0)},
        {"label": "moved", "slope": told(-0.45, 0.1), "drift": told(0.3, 0.01)},
        {"label": "stuck", "slope": told(-0.1, 0.1), "drift": told(0.0, 0.0)},
        {"label": "own", "slope": told(-0.1, 0.1), "drift": None},
    ]
    first, second = toy_page.rate(rows)
    assert "vanishes under `still` and `stuck`; it does not under `moved` (0.3)." in first
    assert "have `still` and `moved`. Of these, `moved` have a drift" in second
    assert "Without drift and yet slower: `stuck`." in second


def frozen(better: dict[str, float]) -> list[Row]:
    grid, of = tuned(list(frozen_head.chosen_by(NOWHERE))), score(better)
    return [*grid, *(row(t, of(t)) for t in frozen_head.runs(NOWHERE, grid))]


def test_the_frozen_heads_page_says_who_makes_the_most_of_the_ranks() -> None:
    better = {"catchup": 0.3, frozen_head.HIGHEST: 0.3, "flora": 0.1, "zero-pad": -0.2}
    text = frozen_head_page.section(frozen(better)).text
    assert "Rank matters here: `rank 64 for all` less `fedit` at the mean rank +30." in text
    assert "“As good as if everyone could afford the highest rank” **is a tie**" in text
    assert "0.100 of FLoRA's, at most an eighth" in " ".join(text.split())
    assert "“Better than FedHL for the same traffic” **holds**" in text
    assert "Of the 18 others `catchup` is ahead of" in text
    assert "Not run yet" not in text
    lines = [line for line in text.splitlines() if line.startswith("| `catchup` | **80")]
    assert len(lines) == 1


def test_the_frozen_head_has_the_highest_rank_for_comparison() -> None:
    trials = list(frozen_head.chosen_by(NOWHERE))
    assert len(trials) == len(frozen_head.labels()) * 3 * 2
    top = [t for t in trials if t.label == frozen_head.HIGHEST]
    assert all({"algorithm=fedit", "lora.ranks=64"} <= set(t.overrides) for t in top)
    assert all("lora.train_head=false" in t.overrides for t in trials)
    assert len({t.key for t in trials}) == len(trials)


def test_a_frozen_heads_page_without_runs_says_so() -> None:
    grid = tuned(list(frozen_head.chosen_by(NOWHERE)))
    assert "Not run yet." in frozen_head_page.section(grid).text
    first, quick = frozen_head.stages(NOWHERE, quick=True)
    assert [t.key for t in first([])] == [r["key"] for r in grid]
    assert {(t.cell, t.seed) for t in quick(grid)} == {
        (frozen_head.cell("dirichlet(0.5)", "banking77"), s) for s in (0, 1, 2)
    }
    few = [row(t, 0.5) for t in quick(grid)]
    assert "over 3 seeds" in frozen_head_page.section([*grid, *few]).text
