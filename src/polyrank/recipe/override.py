"""`key=value` from the command line, on top of what the file says."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from polyrank.recipe.places import COMMAND_LINE, Document, Keys, MistakeError, dotted, shown
from polyrank.recipe.text import NotYaml, complaint, parse

# Setting the key drops these siblings, where they came from the file: they say the same in
# another way, or belong to what is replaced.
DISPLACES = {
    "data.name": ("path", "test", "subset"),
    "data.path": ("name", "subset", "test"),
    "lora.scale": ("alpha", "rslora"),
    "lora.alpha": ("scale",),
    "local.epochs": ("steps",),
    "local.steps": ("epochs",),
}
NAMED = ("data", "algorithm")  # sections that a name alone may stand for


def override(document: Document, text: str) -> Document:
    """The document with one `key=value` applied; the value is YAML.

    A mapping replaces the whole section. `data=NAME` is `data.name=NAME`; `algorithm=NAME`
    also drops the options that the file gives to another algorithm.

    Raises:
        MistakeError: no `=`, no YAML, or a key below something that is no mapping.
    """
    keys, value = _parsed(text)
    values, places = deepcopy(document.values), dict(document.places)
    dropped = DISPLACES.get(dotted(keys), ())
    if len(keys) == 1 and keys[0] in NAMED and isinstance(value, str):
        keys = (*keys, "name")
        section = document.values.get(keys[0])
        options = tuple(section) if isinstance(section, Mapping) else ()
        if isinstance(section, Mapping) and section.get("name") == value:
            options = ()  # the same algorithm keeps its options
        dropped = DISPLACES["data.name"] if keys[0] == "data" else options
    section = _descend(document, values, keys[:-1])
    for sibling in dropped if value is not None else ():
        if document.place((*keys[:-1], str(sibling))) != COMMAND_LINE:
            section.pop(sibling, None)
    section[int(keys[-1]) if keys[-1].isdecimal() else keys[-1]] = value
    places = {at: place for at, place in places.items() if at[: len(keys)] != keys}
    places[keys] = COMMAND_LINE
    return Document(values, _with_parents(places, keys), document.source)


def _with_parents(places: dict[Keys, Any], keys: Keys) -> dict[Keys, Any]:
    """A section that only the command line names is in the command line too."""
    parents = {keys[:depth]: COMMAND_LINE for depth in range(1, len(keys))}
    return parents | places


def _parsed(text: str) -> tuple[Keys, Any]:
    key, equals, value = text.partition("=")
    keys = tuple(key.strip().split("."))
    if not equals or not all(keys):
        raise MistakeError(COMMAND_LINE, "", f"{text!r} is not key=value, such as local.lr=3e-3")
    try:
        return keys, parse(value, lambda mark: COMMAND_LINE, keys)[0]
    except NotYaml as error:
        problem = f"{shown(value)} is not YAML: {complaint(error, value)[2]}"
        raise MistakeError(COMMAND_LINE, dotted(keys), problem) from None


def _descend(document: Document, values: dict[Any, Any], keys: Keys) -> dict[Any, Any]:
    """The mapping at `keys`, made where it is missing or only a name stands for it."""
    for depth, key in enumerate(keys, start=1):
        child = values.get(key)
        if depth == 1 and key in NAMED and isinstance(child, str):
            child = {"name": child}
        if child is not None and not isinstance(child, dict):
            at = keys[:depth]
            problem = f"{shown(child)} has no keys of its own, so that none can be set in it"
            raise MistakeError(document.place(at), dotted(at), problem)
        values[key] = {} if child is None else child
        values = values[key]
    return values
