"""Everything this package raises on purpose: one line that names the value and the remedy."""

import difflib
from collections.abc import Iterable


class PolyrankError(Exception):
    """A user's mistake or a broken input; the message is one line and needs no traceback."""


class RecipeError(PolyrankError, ValueError):
    """A recipe asks for something that cannot be; `key` is the dotted path of the culprit.

    The room that finds the mistake knows the key, the room that read the file knows the line:
    the command line joins the two.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key
        self.problem = problem


class DataError(PolyrankError, ValueError):
    """Data that cannot be read or used as it is."""


class RankError(PolyrankError, ValueError):
    """Factors whose ranks do not fit each other."""


class MessageError(PolyrankError, ValueError):
    """Bytes from the other side that are not a well-formed message, or an update to refuse."""


class StorageError(PolyrankError, OSError):
    """A run folder, checkpoint or adapter folder that cannot be written or read."""


class AdapterError(PolyrankError, ValueError):
    """Adapters that do not go together, or cannot become what is asked."""


class FederationError(PolyrankError):
    """Sites, servers or their processes that are not as they have to be."""


class SlowerWarning(UserWarning):
    """Something that costs time or memory and changes no result; the message is one line."""


def line(value: object) -> str:
    """Text of another's as one short line that can be printed."""
    text = str(value)[:500]
    return "".join(c if c.isprintable() else " " for c in text)


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint for a misspelt name: `; did you mean 'x'?`, else the valid names."""
    names = sorted(valid)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(names)}"
