"""A recipe's data becomes a corpus, from files, the hub or the installed libraries."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from polyrank.data import digest, docstrings
from polyrank.data.examples import Corpus, Examples
from polyrank.data.source import load
from polyrank.errors import DataError, RecipeError
from polyrank.recipe.schema import Data

SHARED = Path(__file__).parents[2] / "../shared/data"
ROWS = [{"text": f"text {n}", "label": "ab"[n % 2], "who": f"w{n % 3}"} for n in range(50)]


def written(path, rows):
    """`path`, holding `rows` as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_folder_with_both_splits(tmp_path):
    train = written(tmp_path / "train.jsonl", ROWS)
    test = written(tmp_path / "test.jsonl", ROWS[:4])
    corpus = load(Data(path=tmp_path), 0)
    assert corpus.labels == ("a", "b")
    assert corpus.train == Examples(tuple(f"text {n}" for n in range(50)), (0, 1) * 25)
    assert corpus.test.labels == (0, 1, 0, 1)
    assert corpus.source == {
        "name": str(tmp_path),
        "sha256": {str(file): digest.of_file(file) for file in (train, test)},
        "counts": {"train": 50, "test": 4, "classes": 2},
    }


def test_one_file_gives_a_held_out_share_by_seed(tmp_path):
    recipe = Data(path=written(tmp_path / "all.jsonl", ROWS), held_out=0.3)
    corpus = load(recipe, 0)
    assert (len(corpus.train), len(corpus.test)) == (35, 15)
    assert {*corpus.train.texts, *corpus.test.texts} == {row["text"] for row in ROWS}
    assert load(recipe, 0) == corpus
    assert load(recipe, 1).test != corpus.test


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_neither_side_of_a_split_is_empty(tmp_path, share):
    recipe = Data(path=written(tmp_path / "all.jsonl", ROWS[:2]), held_out=share)
    assert {len(load(recipe, 0).train), len(load(recipe, 0).test)} == {1}


def test_caps_draw_by_seed_and_keep_texts_with_their_labels(tmp_path):
    path = written(tmp_path / "all.jsonl", ROWS)
    recipe = Data(path=path, test=path, train_examples=10, test_examples=5)
    corpus = load(recipe, 0)
    assert (len(corpus.train), len(corpus.test)) == (10, 5)
    known = {row["text"]: "ab".index(row["label"]) for row in ROWS}
    assert all(known[t] == k for t, k in zip(corpus.train.texts, corpus.train.labels, strict=True))
    assert load(recipe, 0) == corpus
    assert load(recipe, 1).train != corpus.train


def test_a_share_of_the_training_data_stands_in_for_the_test_set(tmp_path):
    train = written(tmp_path / "train.jsonl", ROWS)
    test = written(tmp_path / "test.jsonl", [{"text": "unseen", "label": "a"}])
    options = {"path": train, "test": test, "train_examples": 40, "held_out": 0.25}
    usual = load(Data(**options), 0)
    corpus = load(Data(**options, evaluate_on="validation"), 0)
    assert (len(corpus.train), len(corpus.test)) == (30, 10)
    assert sorted(corpus.train.texts + corpus.test.texts) == sorted(usual.train.texts)
    assert corpus.source["counts"] == {"train": 30, "test": 10, "classes": 2}
    known = {row["text"]: "ab".index(row["label"]) for row in ROWS}
    assert all(known[t] == k for t, k in zip(corpus.test.texts, corpus.test.labels, strict=True))
    assert load(Data(**options, evaluate_on="validation"), 0) == corpus
    assert load(Data(**options, evaluate_on="validation"), 1).test != corpus.test


def test_the_held_out_share_of_one_file_is_not_touched_by_validation(tmp_path):
    path = written(tmp_path / "all.jsonl", ROWS)
    usual, corpus = (load(Data(path=path, evaluate_on=on), 0) for on in ("test", "validation"))
    assert (len(corpus.train), len(corpus.test)) == (32, 8)
    assert not {*corpus.train.texts, *corpus.test.texts} & {*usual.test.texts}


def test_one_training_example_leaves_none_for_validation(tmp_path):
    path = written(tmp_path / "all.jsonl", ROWS)
    recipe = Data(path=path, train_examples=1, evaluate_on="validation")
    with pytest.raises(RecipeError, match=r"data\.evaluate_on: 'validation' needs 2 .*, not 1$"):
        load(recipe, 0)


def test_owners_travel_with_their_texts(tmp_path):
    path = written(tmp_path / "all.jsonl", ROWS)
    corpus = load(Data(path=path, partition="key(who)", train_examples=9), 0)
    known = {row["text"]: row["who"] for row in ROWS}
    assert corpus.train.keys == tuple(known[text] for text in corpus.train.texts)


def test_integer_labels_are_indices_into_the_class_names(tmp_path):
    (tmp_path / "labels.json").write_text('["cat", "dog", "eel"]')
    written(tmp_path / "train.jsonl", [{"text": "t", "label": label} for label in (2, 0)])
    corpus = load(Data(path=tmp_path), 0)
    assert corpus.labels == ("cat", "dog", "eel")
    assert {*corpus.train.labels, *corpus.test.labels} == {0, 2}
    written(tmp_path / "train.jsonl", [{"text": "t", "label": label} for label in (2, 3)])
    with pytest.raises(DataError, match=r"train\.jsonl:2: 3 is not among .*labels\.json"):
        load(Data(path=tmp_path), 0)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([], ROWS, "no examples to train on"),
        (ROWS, [], "no examples in the held-out split"),
        (ROWS[::2], ROWS, "every example has the label 'a'; two classes or more"),
        (ROWS, [{"text": "x", "label": "new"}], r"test\.jsonl:1: 'new' is not among the classes"),
    ],
)
def test_data_without_a_task_is_refused(tmp_path, train, test, message):
    written(tmp_path / "train.jsonl", train)
    written(tmp_path / "test.jsonl", test)
    with pytest.raises(DataError, match=message):
        load(Data(path=tmp_path), 0)


def test_a_relative_path_starts_at_the_working_directory(tmp_path, monkeypatch):
    written(tmp_path / "train.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    assert len(load(Data(path="train.jsonl"), 0).train) == 40


def test_the_embedded_data_can_be_capped(monkeypatch):
    small = Examples(("a", "b", "c"), (0, 1, 0))
    embedded = Corpus(small, small, ("x", "y"), {"name": "docstrings"})
    monkeypatch.setattr(docstrings, "corpus", lambda: embedded)
    corpus = load(Data(name="docstrings", train_examples=2), 0)
    assert (len(corpus.train), len(corpus.test)) == (2, 3)
    assert corpus.source["counts"] == {"train": 2, "test": 3, "classes": 2}


@pytest.fixture
def hub(monkeypatch):
    """Puts splits on a pretended hub, as real `datasets` objects."""
    datasets = pytest.importorskip("datasets", reason="the hub is an extra")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )

    def put(**splits):
        found = {
            name: datasets.Dataset.from_list(
                [{"text": f"t{n}", "label": label} for n, label in enumerate(labels)], features
            )
            for name, labels in splits.items()
        }
        asked = []
        monkeypatch.setattr(
            datasets,
            "load_dataset",
            lambda *names: asked.append(names) or datasets.DatasetDict(found),
        )
        return asked

    return put


def test_a_hub_data_set_by_name_and_subset(hub):
    asked = hub(train=[0, 1, 1], test=[1, 0], validation=[0])
    corpus = load(Data(name="org/set", subset="en"), 0)
    assert asked == [("org/set", "en")]
    assert corpus.labels == ("neg", "pos")
    assert (corpus.train.labels, corpus.test.labels) == ((0, 1, 1), (1, 0))
    assert corpus.source["subset"] == "en"
    assert len(corpus.source["sha256"]) == 64


def test_a_test_split_without_labels_is_passed_over(hub):
    hub(train=[0, 1, 1], test=[-1, -1], validation=[1])
    assert load(Data(name="glue"), 0).test.labels == (1,)
    hub(train=[0, 1] * 5, test=[-1, -1])
    assert len(load(Data(name="glue"), 0).test) == 2  # a held-out share


def test_hub_rows_are_named(hub):
    hub(train=[0, 1, -1])
    with pytest.raises(DataError, match=r"org/set\[train\]:2: -1 is not among .* of 'org/set'"):
        load(Data(name="org/set"), 0)
    with pytest.raises(DataError, match=r"no column 'body' .* are text, label"):
        load(Data(name="org/set", text="body"), 0)
    hub(test=[0, 1])
    with pytest.raises(DataError, match=r"'org/set' has no split 'train', only test"):
        load(Data(name="org/set"), 0)


def test_a_hub_that_cannot_be_reached_is_one_line_with_a_remedy(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the hub is an extra")

    def fail(*_):
        raise ConnectionError("Couldn't reach the hub\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"'ag_new' .*reach the hub\).* give data\.path$"):
        load(Data(name="ag_new"), 0)


def test_a_missing_hub_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"'ag_news' .*pip install 'polyrank\[hub\]'"):
        load(Data(name="ag_news"), 0)


def test_a_local_folder_loads_through_the_hub_library(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="the hub is an extra")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    written(tmp_path / "set" / "train.jsonl", ROWS)
    written(tmp_path / "set" / "test.jsonl", ROWS[:3])
    corpus = load(Data(name=str(tmp_path / "set")), 0)
    assert corpus.labels == ("a", "b")
    assert corpus.train.texts == tuple(row["text"] for row in ROWS)
    assert corpus.test.labels == (0, 1, 0)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the optional data folder is not here")
@pytest.mark.parametrize(
    ("folder", "options", "classes", "sizes"),
    [
        ("ag_news", {}, 4, (22356, 7600)),
        ("dbpedia14", {}, 14, (14000, 7600)),
        ("banking77", {}, 77, (10003, 3080)),
        ("mrpc", {"text": "text,text_pair"}, 2, (3668, 1725)),
        ("rte", {"text": "text,text_pair", "test_examples": 100}, 2, (2490, 100)),
        ("dolly15k", {"text": "instruction,context", "label": "category"}, 8, (14931, 80)),
    ],
)
def test_public_benchmarks_load_as_they_are(folder, options, classes, sizes):
    corpus = load(Data(path=SHARED / folder, **options), 0)
    assert len(corpus.labels) == classes
    assert (len(corpus.train), len(corpus.test)) == sizes
    assert set(Counter(corpus.test.labels)) <= set(range(classes))


SST2 = {"test": SHARED / "sst2/dev_872.jsonl.gz"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the optional data folder is not here")
@pytest.mark.parametrize(
    ("path", "options", "classes", "sizes"),
    [
        ("sst2", {}, 2, (60614, 872)),
        ("sst2/train.jsonl.gz", SST2, 2, (60614, 872)),
        ("sst2/heldout.jsonl.gz", {**SST2, "evaluate_on": "validation"}, 2, (5388, 1347)),
        (
            "mrpc/train.jsonl.gz",
            {"test": SHARED / "mrpc/dev.jsonl.gz", "text": "text, text_pair"},
            2,
            (3668, 408),
        ),
        ("rte", {"text": "text, text_pair"}, 2, (2490, 277)),
        (
            "dbpedia14/train_14k.jsonl.gz",
            {"test": SHARED / "dbpedia14/test_7600.jsonl.gz"},
            14,
            (14000, 7600),
        ),
    ],
)
def test_the_files_of_public_benchmarks_load_by_name(path, options, classes, sizes):
    corpus = load(Data(path=SHARED / path, **options), 0)
    assert len(corpus.labels) == classes
    assert (len(corpus.train), len(corpus.test)) == sizes
    assert set(corpus.test.labels) == set(range(classes))
