"""Rows as dialogues: four formats, from JSON lines and tables; each mistake with its line."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from polyrank.data import source
from polyrank.data.examples import Examples
from polyrank.errors import DataError
from polyrank.recipe.schema import Data
from tests.writing.conftest import ROWS, written

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
FORMATS: list[tuple[dict[str, Any], dict[str, Any], tuple[tuple[str, str], ...]]] = [
    ({"instruction": "Do", "output": "Done"}, {}, (("user", "Do"), ("assistant", "Done"))),
    ({"instruction": "Do", "context": "this", "response": "Done"}, {},
     (("user", "Do\n\nthis"), ("assistant", "Done"))),
    ({"messages": TURNS}, {}, (("user", "Hi"), ("assistant", "Ho"))),
    ({"prompt": "1 + 1 =", "completion": " 2"}, {}, (("prompt", "1 + 1 ="), ("completion", " 2"))),
    ({"question": "1 + 1?", "answer": "2"},
     {"fields": {"prompt": "question", "response": "answer"}},
     (("prompt", "1 + 1?"), ("completion", "2"))),
    ({"text": "Once."}, {}, (("completion", "Once."),)),
    ({"prompt": "a", "completion": "b", "text": "c"}, {"format": "text"}, (("completion", "c"),)),
]  # fmt: skip


def load(path: Path, **data: Any) -> Examples:
    corpus = source.load(Data(path=path, held_out=0.5, **data), 0, "causal-lm")
    return corpus.train


@pytest.mark.parametrize(("row", "data", "dialogue"), FORMATS)
def test_formats(tmp_path: Path, row: dict, data: dict, dialogue: tuple) -> None:
    assert load(written(tmp_path / "a.jsonl", [row, row]), **data).texts == (dialogue,)
    with (tmp_path / "a.csv").open("w", newline="") as file:
        plain = {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
        table = csv.DictWriter(file, plain)
        table.writeheader()
        table.writerows([plain, plain])
    assert load(tmp_path / "a.csv", **data).texts == (dialogue,)


def test_categories_and_owners(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", ROWS)
    corpus = source.load(Data(path=path, category="category"), 0, "causal-lm")
    assert corpus.labels == ("pets", "toys")
    assert corpus.train.keys is None
    keyed = source.load(Data(path=path, partition="key(category)"), 0, "causal-lm")
    assert {corpus.labels[i] for i in keyed.train.labels} == set(keyed.train.keys)
    assert source.load(Data(path=path), 0, "causal-lm").labels == ("all",)


def test_the_owners_with_the_most_examples(tmp_path: Path) -> None:
    who = ["a"] * 3 + ["b"] * 5 + ["c"] * 5 + ["d"] * 9
    rows = [{"text": f"{k}{i}", "who": k} for i, k in enumerate(who)]
    path = written(tmp_path / "a.jsonl", rows)
    for count, kept in ((1, {"d"}), (2, {"b", "d"}), (3, {"b", "c", "d"}), (9, set("abcd"))):
        data = Data(path=path, partition=f"key(who, {count})", held_out=0.01)
        corpus = source.load(data, 0, "causal-lm")
        assert set(corpus.train.keys) == kept
        assert len(corpus.train) + len(corpus.test) == sum(k in kept for k in who)


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"instruction": "Do", "output": " "}, {},
     "a.jsonl:2: empty response in column 'output'; remove the row"),
    ({"instruction": "", "output": "x"}, {},
     "a.jsonl:2: empty instruction in column 'instruction'"),
    ({"instruction": "Do"}, {},
     "a.jsonl:2: no column 'output' (data.fields); the columns are instruction"),
    ({"instruction": "Do", "output": 3}, {}, "a.jsonl:2: column 'output' holds 3, not a text"),
]  # fmt: skip
BAD_CHATS: list[tuple[Any, str]] = [
    ("[", "a.jsonl:2: column 'messages' is not JSON"),
    ({}, "a.jsonl:2: column 'messages' holds no list of messages"),
    ([{"role": "user", "content": "Hi"}], "a.jsonl:2: no message of the assistant"),
    ([{"role": "narrator", "content": "Hi"}],
     "a.jsonl:2: message 1 is not {role: …, content: text}"),
    (["Hi"], "a.jsonl:2: message 1 is not"),
    ([TURNS[0], {"role": "assistant", "content": ""}],
     "a.jsonl:2: message 2 (assistant) is empty; remove the row"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "data", "message"), BAD)
def test_a_mistake_names_its_line(tmp_path: Path, row: dict, data: dict, message: str) -> None:
    rows = [{"instruction": "Do", "output": "Done"}, row]
    with pytest.raises(DataError) as error:
        load(written(tmp_path / "a.jsonl", rows), **data)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("messages", "message"), BAD_CHATS)
def test_a_chat_that_is_none_names_its_line(tmp_path: Path, messages: Any, message: str) -> None:
    rows = [{"messages": TURNS}, {"messages": messages}]
    with pytest.raises(DataError) as error:
        load(written(tmp_path / "a.jsonl", rows))
    assert message in str(error.value)


def test_columns_that_hold_no_example(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(DataError, match=r"a\.jsonl:1: no example in the columns question, answer"):
        load(path)
    with pytest.raises(DataError, match=r"no column 'kind' \(data\.category\)"):
        load(path, fields={"prompt": "question", "response": "answer"}, category="kind")
