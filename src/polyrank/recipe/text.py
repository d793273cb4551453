"""YAML text to plain values with their places, and back.

Scalars are those of YAML 1.2's core schema, which has none of YAML 1.1's pitfalls: `1e-3` is a
number, `no` is a word, `010` is ten. Tags and aliases have no use in a recipe and are refused.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml

from polyrank.recipe.places import Keys, MistakeError, Place, dotted

TAG = "tag:yaml.org,2002:"
FLOAT = r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
NotYaml = (yaml.YAMLError, RecursionError)
Locate = Callable[[yaml.Mark], Place]


class Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's scalars, without tags and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            problem = "tags (!) and aliases (*) have no meaning here; put such text in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class Dumper(yaml.SafeDumper):
    """The safe dumper, quoting also the words that are numbers in YAML 1.2 alone."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Double quotes where PyYAML's other styles fold what they should keep (U+0085)."""
        style = None if data.isprintable() else '"'
        return self.represent_scalar(TAG + "str", data, style=style)


Dumper.add_representer(str, Dumper.represent_str)


def _resolve(handler: Any, kind: str, pattern: str, first: str) -> None:
    handler.add_implicit_resolver(TAG + kind, re.compile(rf"^(?:{pattern})$"), list(first))


# A scalar is of the first kind that matches, so that whole numbers come before the others.
Loader.yaml_implicit_resolvers = {}
_resolve(Loader, "bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve(Loader, "int", r"[-+]?\d+", "-+0123456789")
_resolve(Loader, "float", FLOAT, "-+.0123456789")
Loader.add_implicit_resolver(TAG + "null", re.compile("^(?:~|null|Null|NULL|)$"), ["~", *"nN", ""])
_resolve(Dumper, "float", FLOAT, "-+.0123456789")


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": _float,
    "str": str,
}


def complaint(error: Exception, text: str) -> tuple[int, int, str]:
    """Line, column and the parser's words, for an error of the kinds in `NotYaml`."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1)
        return (
            before.count("\n") + 1,
            column + 1,
            f"the character U+{error.character:04X} is not allowed",
        )
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            words = ", ".join(filter(None, (error.context, error.problem)))
            return mark.line + 1, mark.column + 1, words
    return 1, 1, "nested too deeply" if isinstance(error, RecursionError) else str(error)


def parse(text: str, locate: Locate, path: Keys = ()) -> tuple[Any, dict[Keys, Place]]:
    """Plain values and the place of every key and list element; None for no document at all.

    Args:
        text: YAML.
        locate: the place of a mark in the text.
        path: where the text's root is in the recipe.

    Raises:
        yaml.YAMLError, RecursionError: not YAML; see `complaint`.
        MistakeError: a key given twice, or one that is no plain word.
    """
    places: dict[Keys, Place] = {}
    root = yaml.compose(text, Loader=Loader)
    return (None if root is None else _value(root, path, locate, places)), places


def _value(node: yaml.Node, path: Keys, locate: Locate, places: dict[Keys, Place]) -> Any:
    places.setdefault(path, locate(node.start_mark))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, locate, places)
    if isinstance(node, yaml.SequenceNode):
        items = enumerate(node.value)
        return [_value(item, (*path, str(i)), locate, places) for i, item in items]
    return _scalar(node)


def _mapping(
    node: yaml.MappingNode, path: Keys, locate: Locate, places: dict[Keys, Place]
) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    first: dict[Any, Place] = {}
    for key_node, item in node.value:
        here = locate(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode):
            raise MistakeError(here, dotted(path), "a key is one word, not a list or a mapping")
        key = _scalar(key_node)
        child = (*path, str(key))
        if key in values:
            line = "" if first[key].line is None else f" (first on line {first[key].line})"
            raise MistakeError(here, dotted(child), f"given twice{line}")
        first[key] = places[child] = here
        values[key] = _value(item, child, locate, places)
    return values


def _scalar(node: yaml.Node) -> Any:
    try:
        return SCALARS[node.tag.removeprefix(TAG)](node.value)
    except ValueError:  # more digits than Python reads: no key takes such a number
        return node.value
