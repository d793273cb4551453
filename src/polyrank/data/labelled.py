"""Classification: rows with a text and a label."""

from collections.abc import Iterable, Mapping

from polyrank.data import columns
from polyrank.data.files import Row
from polyrank.data.raw import Raw, Read, Reader
from polyrank.errors import DataError
from polyrank.recipe.schema import Data


def _rows(raw: Raw, recipe: Data) -> Read:
    train = columns.pick(raw.train, recipe.text, recipe.label, recipe.owner)
    _check(raw.name, train)
    index, names = columns.classes(train.labels, raw.class_names)
    known = raw.class_names[0] if raw.class_names else "the training data"
    examples = columns.encode(train, index, known)
    if raw.test is None:
        return Read(examples, None, names)
    test = columns.encode(columns.pick(raw.test, recipe.text, recipe.label, None), index, known)
    return Read(examples, test, names)


def _check(name: str, train: columns.Columns) -> None:
    if not train.texts:
        raise DataError(f"{name}: no examples to train on")
    if len(set(train.labels)) < 2:
        problem = f"every example has the label {train.labels[0]!r}; two classes or more are due"
        raise DataError(f"{name}: {problem}")


def _own(rows: Iterable[Row], recipe: Data, fields: Mapping[str, str]) -> columns.Columns:
    names = {"text": recipe.text, "label": recipe.label, **fields}
    return columns.pick(rows, names["text"], names["label"], None)


LABELLED = Reader(_rows, lambda corpus: corpus, _own, ("text", "label"))
