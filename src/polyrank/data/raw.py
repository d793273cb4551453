"""What was found of a data set, before any column is read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from polyrank.data.columns import Columns
from polyrank.data.examples import Corpus, Examples
from polyrank.data.files import Row
from polyrank.recipe.schema import Data


@dataclass(frozen=True, slots=True)
class Raw:
    """A data set's rows.

    Args:
        name: of the data, for errors.
        train: its rows.
        test: the held-out rows, where the data has some.
        class_names: where the class names come from, and the names.
    """

    name: str
    train: Iterable[Row]
    test: Iterable[Row] | None
    class_names: tuple[str, Sequence[str]] | None


@dataclass(frozen=True, slots=True)
class Read:
    """What rows hold: the examples, those held out (None where the data has none), the classes."""

    train: Examples
    test: Examples | None
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """How a task reads its examples.

    Args:
        rows: from a data set's rows.
        texts: from the embedded corpus of labelled texts.
        own: from the rows of a site's own file, in columns that the site names by part.
        parts: that a site may name.
    """

    rows: Callable[[Raw, Data], Read]
    texts: Callable[[Corpus], Corpus]
    own: Callable[[Iterable[Row], Data, Mapping[str, str]], Columns]
    parts: tuple[str, ...]
