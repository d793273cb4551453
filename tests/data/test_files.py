"""Local files: every format reads the same, and every mistake names its file and line."""

import gzip
import json

import pytest

from polyrank.data import files
from polyrank.errors import DataError

ROWS = [{"text": "a, b", "label": "x"}, {"text": 'says "no"\nand goes', "label": "ü"}]
CSV = 'text,label\n"a, b",x\n"says ""no""\nand goes",ü\n'
JSON_LINES = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"


def rows(path):
    """The fields of all rows."""
    return [dict(fields) for _, fields in files.read([path])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.CSV", CSV),
        ("a.tsv", CSV.replace(",", "\t").replace("a\t b", "a, b")),
        ("a.jsonl", JSON_LINES),
        ("a.json", JSON_LINES),
        ("a.ndjson", JSON_LINES),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_all_formats_read_the_same(tmp_path, name, content, mark):
    path = tmp_path / name
    path.write_text(mark + content, encoding="utf-8")
    zipped = tmp_path / f"{name}.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert rows(path) == rows(zipped) == ROWS
    assert files.find(zipped, path) == ([zipped], [path])


def test_rows_know_where_they_stand(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n{"text": "two"}\n')
    assert [where for where, _ in files.read([path, path])] == [f"{path}:1", f"{path}:3"] * 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl:2: not JSON: Expecting value"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl:2: not a JSON object"),
        ("a.jsonl", b"[" * 100_000, r"a\.jsonl:1: not JSON"),
        ("a.jsonl", b'{"a": "\xfc"}\n', r"a\.jsonl:1: not UTF-8"),
        ("a.csv", b"a,b\n1,2\n1,2\n\xfc,2\n", r"a\.csv:4: not UTF-8"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"a\.csv:3: 3 fields, but the header has 2"),
        ("a.csv", b'a,b\n1,2\n"1,2\n', r"a\.csv:3: unexpected end of data"),
        ("a.tsv", b'a\tb\n"x"y\t2\n', r"a\.tsv:2: .*expected after"),
        ("a.csv.gz", b"a,b\n1,2\n", r"a\.csv\.gz: cannot be read after line 0: Not a gzipped"),
        ("a.csv.gz", gzip.compress(b"a,b\n" * 99, mtime=0)[:-9], r"cannot be read after line \d+:"),
    ],
)
def test_a_broken_file_names_its_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        rows(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("there", "held_out"),
    [
        (["train.csv", "test.csv", "dev.csv"], ["test.csv"]),
        (["train_1.jsonl", "train_2.jsonl.gz", "dev_8.tsv", "heldout.csv"], ["dev_8.tsv"]),
        (["train.csv", "validation.csv", "test.txt"], ["validation.csv"]),
        (["Train.csv", "SOURCE.txt"], []),
    ],
)
def test_a_folder_has_training_and_held_out_files(tmp_path, there, held_out):
    for name in there:
        (tmp_path / name).touch()
    train = [tmp_path / name for name in there if name.lower().startswith("train")]
    assert files.find(tmp_path, None) == (train, [tmp_path / name for name in held_out])
    assert files.find(tmp_path, tmp_path / there[-2])[1] == [tmp_path / there[-2]]


def test_what_is_not_there_is_named_with_the_nearest_name(tmp_path):
    (tmp_path / "reviews.csv").touch()
    with pytest.raises(DataError, match=r"review\.csv: no such .*did you mean 'reviews\.csv'\?"):
        files.find(tmp_path / "review.csv", None)
    with pytest.raises(DataError, match=r"reviw\.csv: no such"):
        files.find(tmp_path / "reviews.csv", tmp_path / "reviw.csv")
    with pytest.raises(DataError, match=r"no such .*nor is there anything in .*nowhere"):
        files.find(tmp_path / "nowhere" / "a.csv", None)
    with pytest.raises(DataError, match=r"starts with 'train'; .*: reviews\.csv"):
        files.find(tmp_path, None)


def test_a_format_that_cannot_be_read_names_those_that_can(tmp_path):
    (tmp_path / "a.pkl").touch()
    with pytest.raises(DataError, match=r"a\.pkl: not a format .* \.csv, \.tsv, \.jsonl"):
        files.find(tmp_path / "a.pkl", None)


def test_class_names_come_from_a_json_list(tmp_path):
    assert files.class_names(tmp_path) is None
    (tmp_path / "categories.json").write_text('["cat", "dog"]')
    assert files.class_names(tmp_path) == (str(tmp_path / "categories.json"), ["cat", "dog"])
    (tmp_path / "labels.json").write_text('{"cat": 0}')
    assert files.class_names(tmp_path) == (str(tmp_path / "categories.json"), ["cat", "dog"])
    (tmp_path / "labels.json").write_text('["cat", ')
    with pytest.raises(DataError, match=r"labels\.json: not JSON"):
        files.class_names(tmp_path)
