"""Labelled texts or dialogues, as plain frozen data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Turn = tuple[str, str]  # who speaks (system, user, assistant; prompt, completion), and what
Dialogue = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts with their classes.

    Args:
        texts: what the model reads, or the turns of a dialogue that it learns to go on with.
        labels: an index into the class names, one for each text.
        keys: the natural owner of each text (a speaker, a writer), where the data has one.
    """

    texts: tuple[str | Dialogue, ...]
    labels: tuple[int, ...]
    keys: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        columns = (self.texts, self.labels, self.texts if self.keys is None else self.keys)
        if len(set(map(len, columns))) > 1:
            raise ValueError(f"columns of different lengths: {[*map(len, columns)]}")

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> "Examples":
        """The examples at `indices`, in that order."""
        return Examples(
            tuple(self.texts[i] for i in indices),
            tuple(self.labels[i] for i in indices),
            None if self.keys is None else tuple(self.keys[i] for i in indices),
        )


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a run trains on and what it is measured on.

    Args:
        train: shared out among the clients.
        test: held out; the server evaluates on it.
        labels: the class names; a label is an index into them.
        source: where the texts come from, as JSON for the records.
    """

    train: Examples
    test: Examples
    labels: tuple[str, ...]
    source: Mapping[str, Any]
