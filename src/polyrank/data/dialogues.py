"""Language models: rows with an instruction and a response, a chat, a prompt, or plain text."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from polyrank.data.columns import Columns, class_of, encodable, encode, field
from polyrank.data.examples import Corpus, Dialogue, Examples
from polyrank.data.files import Row
from polyrank.data.raw import Raw, Read, Reader
from polyrank.errors import DataError
from polyrank.recipe.schema import Data
from polyrank.recipe.values import ROLES

# What a part's column may be called where the recipe does not say.
COLUMNS: Mapping[str, Sequence[str]] = {
    "messages": ("messages",),
    "instruction": ("instruction",),
    "input": ("input", "context"),
    "response": ("response", "output", "completion"),
    "prompt": ("prompt",),
    "text": ("text",),
}
FORMATS: Mapping[str, Sequence[str]] = {  # which parts each needs; auto takes the first that fits
    "messages": ("messages",),
    "instruction": ("instruction", "response"),
    "prompt": ("prompt", "response"),
    "text": ("text",),
}
SPEAKERS = ("system", "user", "assistant")
ALL = "all"  # the one class of examples without a category


class Layout(NamedTuple):
    """How rows hold an example: in which format, and in which columns its parts are."""

    format: str
    columns: Mapping[str, str]


def _rows(raw: Raw, recipe: Data) -> Read:
    train = pick(raw.train, recipe, recipe.owner)
    if not train.texts:
        raise DataError(f"{raw.name}: no examples to train on")
    test = None if raw.test is None else pick(raw.test, recipe, None)
    names = sorted({*train.labels, *(test.labels if test else ())}, key=str)
    index = {name: i for i, name in enumerate(names)}
    held_out = None if test is None else encode(test, index, raw.name)
    return Read(encode(train, index, raw.name), held_out, tuple(map(str, names)))


def _texts(corpus: Corpus) -> Corpus:
    """Texts to go on with from nothing; their classes are their categories."""
    train, test = (
        Examples(tuple((("completion", str(t)),) for t in own.texts), own.labels, own.keys)
        for own in (corpus.train, corpus.test)
    )
    return Corpus(train, test, corpus.labels, corpus.source)


def _own(rows: Iterable[Row], recipe: Data, fields: Mapping[str, str]) -> Columns:
    parts = {part: name for part, name in fields.items() if part != "label"}
    named = {"fields": {**recipe.fields, **parts}, "partition": "iid"}
    category = fields.get("label", recipe.category or recipe.owner)
    return pick(rows, recipe.model_copy(update={**named, "category": category}), None)


DIALOGUES = Reader(_rows, _texts, _own, (*ROLES, "label"))


def pick(rows: Iterable[Row], recipe: Data, owner: str | None) -> Columns:
    """Read the dialogues in `rows`, their categories and their owners.

    Args:
        rows: any mappings, each with where it stands.
        recipe: says how they are laid out; what it does not say is seen from the first row.
        owner: the column of owners, if any.

    Raises:
        DataError: a column that is missing, an empty part, no answer; the row is named.
    """
    found, layout = Columns([], [], None if owner is None else [], []), None
    category, option = (
        recipe.category or recipe.owner,
        "category" if recipe.category else "partition",
    )
    for where, row in rows:
        layout = layout or _layout(where, row, recipe)
        found.texts.append(_READ[layout.format](where, row, layout.columns))
        found.labels.append(ALL if category is None else _named(where, row, category, option))
        if found.keys is not None and owner is not None:
            found.keys.append(_named(where, row, owner, "partition"))
        found.places.append(where)
    return found


def _named(where: str, row: Mapping[str, Any], column: str, option: str) -> str:
    return str(class_of(where, field(where, row, column, option), column))


def _layout(where: str, row: Mapping[str, Any], recipe: Data) -> Layout:
    columns = {
        part: recipe.fields.get(part) or next((n for n in names if n in row), names[0])
        for part, names in COLUMNS.items()
    }
    whole = (f for f, parts in FORMATS.items() if all(columns[part] in row for part in parts))
    format = next(whole, None) if recipe.format == "auto" else recipe.format
    if format is None:
        raise DataError(
            f"{where}: no example in the columns {', '.join(row)}; an example is an instruction "
            "and a response, messages, a prompt and a response, or a text: data.fields says what "
            "their columns are called"
        )
    return Layout(format, columns)


def _instruction(where: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> Dialogue:
    asked = _part(where, row, columns, "instruction")
    if more := str(row.get(columns["input"]) or "").strip():
        asked = f"{asked}\n\n{encodable(where, more, columns['input'])}"
    return ("user", asked), ("assistant", _part(where, row, columns, "response"))


def _prompt(where: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> Dialogue:
    asked = _part(where, row, columns, "prompt")
    return ("prompt", asked), ("completion", _part(where, row, columns, "response"))


def _text(where: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> Dialogue:
    return (("completion", _part(where, row, columns, "text")),)


def _messages(where: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> Dialogue:
    name = columns["messages"]
    told = field(where, row, name, "fields")
    if isinstance(told, str):  # in a table, as JSON
        try:
            told = json.loads(told)
        except ValueError as error:
            raise DataError(f"{where}: column {name!r} is not JSON: {error}") from error
    if not isinstance(told, list):
        raise DataError(f"{where}: column {name!r} holds no list of messages")
    turns = tuple(_turn(where, i, turn) for i, turn in enumerate(told, start=1))
    if not any(role == "assistant" for role, _ in turns):
        raise DataError(f"{where}: no message of the assistant in column {name!r}; remove the row")
    return turns


def _turn(where: str, number: int, turn: Any) -> tuple[str, str]:
    turn = turn if isinstance(turn, dict) else {}
    role, content = turn.get("role"), turn.get("content")
    if role not in SPEAKERS or not isinstance(content, str):
        raise DataError(
            f"{where}: message {number} is not {{role: …, content: text}} with a role of "
            f"{', '.join(SPEAKERS)}"
        )
    if not content.strip():
        raise DataError(f"{where}: message {number} ({role}) is empty; remove the row")
    return role, encodable(where, content, f"message {number}")


def _part(where: str, row: Mapping[str, Any], columns: Mapping[str, str], part: str) -> str:
    name = columns[part]
    value = field(where, row, name, "fields")
    if not isinstance(value, str | None):
        raise DataError(f"{where}: column {name!r} holds {value!r}, not a text")
    if not value or not value.strip():
        raise DataError(f"{where}: empty {part} in column {name!r}; remove the row")
    return encodable(where, value, name)


_READ = {"instruction": _instruction, "messages": _messages, "prompt": _prompt, "text": _text}
