"""Columns: texts, classes and owners out of rows, and errors that name the row."""

import pytest

from polyrank.data.columns import classes, encode, pick
from polyrank.errors import DataError


def test_the_named_columns_are_read():
    rows = [
        ("f:1", {"who": 7, "text": "a", "label": "x"}),
        ("f:2", {"who": "B", "text": "b", "label": "y"}),
    ]
    found = pick(rows, "text", "label", "who")
    assert (found.texts, found.labels) == (["a", "b"], ["x", "y"])
    assert (found.keys, found.places) == (["7", "B"], ["f:1", "f:2"])
    assert pick(rows, "text", "label", None).keys is None


def test_several_text_columns_are_joined_without_the_empty_ones():
    rows = [
        ("f:1", {"a": "one", "b": "two", "label": 0}),
        ("f:2", {"a": "one", "b": "", "label": 1}),
    ]
    assert pick(rows, "a, b", "label", None).texts == ["one [SEP] two", "one"]


@pytest.mark.parametrize(
    ("labels", "ordered", "names"),
    [
        (["10", 9, "-1"], [-1, 9, 10], ("-1", "9", "10")),
        (["b", "a", "10"], [10, "a", "b"], ("10", "a", "b")),
        ([True, False], ["false", "true"], ("false", "true")),
        (["01", "1"], ["01", 1], ("01", "1")),
        (["٣", "x"], ["x", "٣"], ("x", "٣")),
    ],
)
def test_classes_are_the_sorted_distinct_labels(labels, ordered, names):
    found = pick([("f:1", {"t": "a", "l": label}) for label in labels], "t", "l", None).labels
    assert classes(found, None) == ({label: i for i, label in enumerate(ordered)}, names)


def test_integers_are_indices_where_the_classes_have_names():
    named = ("labels.json", ["cat", "dog", "eel"])
    assert classes([2, 0], named) == ({0: 0, 1: 1, 2: 2}, ("cat", "dog", "eel"))
    assert classes(["x", "y"], named)[1] == ("x", "y")


def test_a_label_that_is_no_class_is_named_with_its_row():
    rows = [(f"f:{n}", {"t": "a", "l": label}) for n, label in enumerate(["x", "z", "q", "z"])]
    with pytest.raises(DataError, match="f:1: 'z', 'q' is not among the classes of the training"):
        encode(pick(rows, "t", "l", None), {"x": 0}, "the training data")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"body": "a", "label": 1}, r"f:3: no column 'text' \(data\.text\); .* are body, label"),
        ({"text": "a", "tag": 1}, r"f:3: no column 'label' \(data\.label\); .* are text, tag"),
        ({"text": " ", "label": 1}, "f:3: empty text in column 'text'"),
        ({"text": None, "label": 1}, "f:3: empty text in column 'text'"),
        ({"text": 5, "label": 1}, "f:3: column 'text' holds 5, not a text"),
        ({"text": "\ud800", "label": 1}, "f:3: column 'text' holds half a surrogate"),
        ({"text": "a", "label": None}, "f:3: nothing in column 'label'"),
        ({"text": "a", "label": ""}, "f:3: nothing in column 'label'"),
        ({"text": "a", "label": 0.5}, "f:3: column 'label' holds 0.5; a string or an integer"),
        ({"text": "a", "label": [1]}, r"f:3: column 'label' holds \[1\]"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row, message):
    with pytest.raises(DataError, match=message):
        pick([("f:3", row)], "text", "label", None)


def test_a_missing_owner_is_named():
    with pytest.raises(DataError, match=r"f:3: no column 'who' \(data\.partition\)"):
        pick([("f:3", {"text": "a", "label": 1})], "text", "label", "who")
