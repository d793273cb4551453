"""From rows with any columns to texts, classes and owners."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyrank.data.examples import Examples
from polyrank.data.files import Row
from polyrank.errors import DataError

SEPARATOR = " [SEP] "  # between two text columns; BERT's tokenizers know it
INTEGER = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
Label = int | str


@dataclass(frozen=True, slots=True)
class Columns:
    """The three columns that count, and where each row stands; a text may be a dialogue."""

    texts: list[Any]
    labels: list[Label]
    keys: list[str] | None
    places: list[str]


def pick(rows: Iterable[Row], text: str, label: str, key: str | None) -> Columns:
    """Read the named columns of `rows`.

    Args:
        rows: any mappings, each with where it stands.
        text: the text column; several, with commas between, are joined (empty ones left out).
        label: the class column, of strings or integers; "3" in a table counts as the integer.
        key: the column of owners, if any.

    Raises:
        DataError: a missing column, an empty text, no label; the row is named.
    """
    names = [name.strip() for name in text.split(",")]
    found = Columns([], [], None if key is None else [], [])
    for where, row in rows:
        found.texts.append(_text(where, [field(where, row, name, "text") for name in names], text))
        found.labels.append(class_of(where, field(where, row, label, "label"), label))
        if found.keys is not None and key is not None:
            found.keys.append(str(class_of(where, field(where, row, key, "partition"), key)))
        found.places.append(where)
    return found


def classes(
    labels: Sequence[Label], named: tuple[str, Sequence[str]] | None
) -> tuple[dict[Label, int], tuple[str, ...]]:
    """Each label's index, and the class names in that order.

    Args:
        labels: of the training examples.
        named: where class names come from, and the names; integer labels are indices into them.
    """
    distinct = set(labels)
    whole = all(isinstance(label, int) for label in distinct)
    if named and whole:
        return {label: label for label in range(len(named[1]))}, tuple(named[1])
    ordered = sorted(distinct, key=None if whole else str)
    return {label: index for index, label in enumerate(ordered)}, tuple(map(str, ordered))


def encode(columns: Columns, index: Mapping[Label, int], known: str) -> Examples:
    """Columns as examples.

    Args:
        columns: what `pick` found.
        index: of each class.
        known: where the classes come from, for the error.

    Raises:
        DataError: labels that are no class, and the first row with one.
    """
    strange = dict.fromkeys(label for label in columns.labels if label not in index)
    if strange:
        first = columns.places[columns.labels.index(next(iter(strange)))]
        raise DataError(f"{first}: {_listed(strange)} is not among the classes of {known}")
    labels = tuple(index[label] for label in columns.labels)
    keys = None if columns.keys is None else tuple(columns.keys)
    return Examples(tuple(columns.texts), labels, keys)


def field(where: str, row: Mapping[str, Any], name: str, option: str) -> Any:
    """What a row has in a column.

    Args:
        where: the row stands.
        row: by column.
        name: of the column.
        option: of `data`, that names the column.

    Raises:
        DataError: the row has no such column.
    """
    if name not in row:
        raise DataError(
            f"{where}: no column {name!r} (data.{option}); the columns are {', '.join(row)}"
        )
    return row[name]


def _text(where: str, parts: list[Any], name: str) -> str:
    for part in parts:
        if not isinstance(part, str | None):
            raise DataError(f"{where}: column {name!r} holds {part!r}, not a text")
    text = SEPARATOR.join(part for part in parts if part and part.strip())
    if not text:
        raise DataError(f"{where}: empty text in column {name!r}; remove the row")
    return encodable(where, text, name)


def encodable(where: str, text: str, name: str) -> str:
    """The same text.

    Raises:
        DataError: it cannot be written as UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: column {name!r} holds half a surrogate pair") from error
    return text


def class_of(where: str, value: Any, name: str) -> Label:
    """What a row has in a column of classes or owners.

    Raises:
        DataError: nothing, or something that is neither a string nor an integer.
    """
    if value is None or value == "":
        raise DataError(f"{where}: nothing in column {name!r}; remove the row")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and INTEGER.fullmatch(value):
        return int(value)
    if not isinstance(value, int | str):
        raise DataError(f"{where}: column {name!r} holds {value!r}; a string or an integer is due")
    return value


def _listed(labels: Iterable[Label]) -> str:
    return ", ".join(map(repr, labels))
