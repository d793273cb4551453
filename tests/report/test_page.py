import re
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from polyrank.errors import StorageError
from polyrank.report.page import page, write
from polyrank.report.records import RunRecords
from tests.report.synthetic import run_records

EVIL = '<img src=x onerror=console.error(1)><script>console.error("x")</script>&\'"'
LOADS = {"src", "href", "data", "action", "poster", "srcset", "background", "xlink:href"}


class Seen(HTMLParser):
    """Tags, loads and visible text of a page, as a browser would read them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.loads, self.text = [], [], ""
        self.feed(page.replace(get_plotlyjs(), "", 1))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [(k, v) for k, v in attrs if k in LOADS or k.startswith("on")]

    def handle_data(self, data):
        if self.tags[-1:] not in (["script"], ["style"]):
            self.text = f"{self.text} {' '.join(data.split())}".rstrip()


NONE = {"total": 0, "factors": 0, "dense": 0}
COST = {"up": NONE, "down": {"total": 1000, "factors": 900, "dense": 0}}


def visible(page):
    return Seen(page).text


@pytest.fixture(scope="module")
def ordinary():
    return page([run_records(), run_records("flora")])


def hostile():
    run = run_records(EVIL, name=EVIL, classes=[EVIL, "</style>", "%{x}"], clients=3)
    evil = {"id": EVIL, "reason": EVIL}
    record = {**run.run, "idle": [evil], "versions": {EVIL: EVIL}, "machine": {EVIL: [EVIL]}}
    record["clients"] = [{**c, "id": EVIL + c["id"]} for c in record["clients"]]
    rounds = tuple(
        {**r, "left_out": [{**evil, **COST}], "info": {EVIL: 1.0, "warning": EVIL}}
        for r in run.rounds
    )
    return RunRecords(record, rounds, run.final)


def test_the_page_loads_nothing(ordinary):
    seen = Seen(ordinary)
    assert [value for _, value in seen.loads if not value.startswith("#")] == []
    assert not {"link", "iframe", "img", "object", "embed", "base", "form"} & set(seen.tags)
    assert not re.search(r"url\(|@import", ordinary.split("<style>")[1].split("</style>")[0])


def test_the_browser_is_told_to_load_nothing(ordinary):
    assert "default-src &#x27;none&#x27;" in ordinary.split("<style>")[0]


def test_plotly_is_there_once(ordinary):
    assert ordinary.count(get_plotlyjs()) == 1
    assert len(re.findall(r"plotly\.js v\d", ordinary)) == 1


def test_whatever_a_record_says_stays_text():
    made = page([hostile()])
    seen = Seen(made)
    assert seen.text.count(EVIL) >= 10
    assert [value for _, value in seen.loads if not value.startswith("#")] == []
    assert seen.tags.count("script") == 1 + made.count('class="plotly-graph-div"')
    assert (seen.tags.count("style"), seen.tags.count("img")) == (1, 0)


def test_rows_stand_in_order_with_their_places():
    runs = [
        run_records(label, seed, peak=peak, rounds=12)
        for label, peak in (("poor", 0.3), ("good", 0.9))
        for seed in range(4)
    ]
    text = visible(page(runs))
    assert text.index("1 good 4") < text.index("2 poor 4")
    assert "Best: good:" in text


def test_a_tie_is_called_a_tie():
    runs = [run_records(label, seed) for label in ("a", "b") for seed in range(2)]
    assert "A tie: " in visible(page(runs))
    assert "1–2 a 2" in visible(page(runs))


@pytest.mark.parametrize("more", [0, 3])
def test_nothing_is_called_best_while_an_algorithm_has_one_seed(more):
    good = [run_records("good", seed, peak=0.9) for seed in range(1 + more)]
    text = visible(page([*good, run_records("poor", peak=0.2)]))
    assert "Highest accuracy: good" in text
    assert "one seed has no interval, so no claim to be best" in text
    assert "Best:" not in text


def test_the_same_runs_give_the_same_page():
    assert page([run_records()]) == page([run_records()])


def test_a_run_without_rounds_is_reported():
    text = visible(page([RunRecords(run_records().run)]))
    assert "Nothing has been measured yet." in text
    assert "Runs that have not come to their end" in text
    assert "0 of 3" in text


def test_rounds_without_test_or_spectrum_are_reported():
    run = run_records(clients=1, finished=False)
    bare = ("spectrum", "info", "left_out", "unchanged")
    rounds = tuple(
        {**{k: v for k, v in r.items() if k not in bare}, "test": None} for r in run.rounds
    )
    text = visible(page([RunRecords(run.run, rounds)]))
    assert "Nothing has been measured yet." in text
    assert "Spectrum of the update" not in text


def test_clients_left_out_are_listed_with_their_rounds():
    run = run_records(rounds=4)
    late = {"id": "3", "reason": "timed out", **COST}
    rounds = tuple({**r, "left_out": [late] if r["round"] in (1, 2, 4) else []} for r in run.rounds)
    idle = {**run.run, "idle": [{"id": "7", "reason": "no examples"}]}
    rounds = (*rounds[:-1], {**rounds[-1], "unchanged": True})
    text = visible(page([RunRecords(idle, rounds, run.final)]))
    assert "fedhl 0 3 timed out 3 1–2, 4" in text
    assert "fedhl 0 7 no examples – all" in text
    assert "nobody replied in round(s) 4" in text


def test_a_promoted_client_shows_both_ranks():
    run = run_records(clients=2, rounds=2)
    last = run.rounds[2]
    promoted = {**last["clients"][0], "rank": 20}
    rounds = (*run.rounds[:2], {**last, "clients": [promoted, last["clients"][1]]})
    assert "2 → 20" in visible(page([RunRecords(run.run, rounds)]))


def test_what_a_client_measured_on_its_validation_examples_is_shown():
    run = run_records(clients=2, rounds=1)
    assert "Validation" not in visible(page([run]))
    told = {"start_val_accuracy": 0.25, "val_accuracy": 0.75}
    last = run.rounds[1]
    measured = [{**last["clients"][0], "metrics": told}, last["clients"][1]]
    rounds = (run.rounds[0], {**last, "clients": measured})
    text = visible(page([RunRecords(run.run, rounds, run.final)]))
    assert "Validation" in text
    assert "25.0 % → 75.0 %" in text


def test_heat_maps_of_many_labels_wait_behind_a_click():
    few, many = (page([run_records(f"fedhl-{i}") for i in range(n)]) for n in (4, 5))
    heading = "<summary>Aggregation weight by client"
    assert f'<details open="open">{heading}' in few
    assert f"<details>{heading}" in many


def test_recipes_that_differ_show_where():
    runs = [run_records("a"), run_records("b")]
    runs[1].run["recipe"]["data"]["partition"] = "iid"
    text = visible(page(runs))
    assert "These runs differ in data: results do not compare." in text
    assert "data.partition" in text
    assert "partition: iid" in text


def test_a_hundred_clients_and_thirteen_algorithms_fit_in_a_page_of_reasonable_size():
    runs = [run_records(f"algorithm-{i}", 0, 100, 1) for i in range(13)]
    text = page(runs)
    assert len(text) < 12e6
    assert text.count("<details") >= 26


def test_no_runs_are_one_clear_line():
    with pytest.raises(StorageError, match="no run to report"):
        page([])


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write(path, [run_records()])
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*report\.html: "):
        write(tmp_path / "file" / "report.html", [run_records()])


def test_very_many_clients_are_told_by_rank():
    few, many = (page([run_records(clients=n)]) for n in (200, 1000))
    text = visible(many)
    assert "Every client, for the first seed" in visible(few)
    assert "The clients by rank, for the first seed" in text
    # rank 2: a quarter of the clients, all of which took part in every one of three rounds
    assert re.search(r"\b2 250 80 · 80 · 80 250 3\.0 250 ", text)
    assert "Measured at the end" not in text
    assert len(many) < len(few)  # the page does not grow with the clients


def test_a_sample_of_the_clients_is_called_one():
    run = run_records(clients=300)
    final = {**run.final, "clients": run.final["clients"][:40], "of": 300}
    text = visible(page([RunRecords(run.run, run.rounds, final)]))
    assert "Measured at the end: the models of 40 of 300 clients, drawn at random" in text


def test_absences_of_very_many_clients_are_counted():
    run = run_records(clients=300)
    idle = [{"id": f"x{i}", "reason": "no examples"} for i in range(250)]
    text = visible(page([RunRecords({**run.run, "idle": idle}, run.rounds, run.final)]))
    assert "250 clients no examples" in text
    assert "x17" not in text
