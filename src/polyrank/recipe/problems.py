"""What pydantic finds wrong, in the words of a recipe's author."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from polyrank.errors import nearest
from polyrank.recipe.places import Document, Keys, MistakeError, dotted, shown
from polyrank.recipe.policies import POLICIES
from polyrank.recipe.schema import Recipe
from polyrank.recipe.values import SHARE

RANKS = ("lora", "ranks")
RANK = "a rank (a whole number, at least 1)"
GIB = "a memory in GiB (a number above 0)"
DEALT = {  # keys that take one value, a list or a mix: the words for one, and for all three
    RANKS: (RANK, f"{RANK}, a list such as [4, 8] or a mix such as {{4: 60%, 8: 40%}}"),
    (*RANKS, "gib"): (GIB, f"{GIB}, a list such as [0.5, 2] or a mix such as {{0.5: 60%, 2: 40%}}"),
}
KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "path_type": "a path",
    "tuple_type": "a list, such as [query, value]",
}
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong: where to point, the key to name, and the words."""

    at: Keys
    key: Keys
    problem: str


def mistakes(error: ValidationError, below: Keys = ()) -> list[Mistake]:
    """One mistake for each key, in pydantic's order; `below` is where the value checked is."""
    found: dict[Keys, Mistake] = {}
    for details in error.errors():
        mistake = _mistake(details, (*below, *details["loc"]))
        found.setdefault(mistake.key, mistake)
    return list(found.values())


def first(found: Iterable[Mistake], document: Document) -> MistakeError:
    """The topmost mistake as an error that names its place and counts the others."""
    top, *others = sorted(found, key=lambda mistake: document.place(mistake.at).order)
    more = f" (and {len(others)} more)" if others else ""
    return MistakeError(document.place(top.at), dotted(top.key), top.problem + more)


def _mistake(details: ErrorDetails, loc: tuple[int | str, ...]) -> Mistake:
    path = tuple(map(str, loc))
    key, inside = _split(path)
    if details["type"] == "conflict":
        key += tuple(details["ctx"]["key"].split("."))
        return Mistake(key, key, details["ctx"]["problem"])
    problem = _problem(details, path)
    if key in DEALT:  # the first inside is the form that was recognised
        inside = inside[1:2]
    return Mistake((*key, *inside), key, problem)


def _split(path: Keys) -> tuple[Keys, Keys]:
    """(the key as it is written, the rest): the name of a policy is in pydantic's path alone."""
    if path[:2] == RANKS and path[2:3] and path[2] in POLICIES:
        return (*RANKS, *path[3:4]), path[4:]
    return path[:2], path[2:]


def _problem(details: ErrorDetails, path: Keys) -> str:
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    if kind in ("extra_forbidden", "invalid_key"):
        return f"unknown key; {_nearest_key(path)}"
    if kind == "missing":
        return "is missing"
    return f"{shown(given)} {_predicate(kind, given, context, path)}"


def _predicate(kind: str, given: Any, context: Mapping[str, Any], path: Keys) -> str:
    key, inside = _split(path)
    if kind == "value_error":
        return str(context["error"])
    if kind in ("too_short", "string_too_short"):
        return "is empty"
    if kind == "model_type":
        return f"is not {_section(path[0])}"
    if key in DEALT:
        return f"is not {_dealt(given, *DEALT[key], *inside)}"
    if kind == "string_type":
        return f"is not text{_in_quotes(given)}"
    field = _field(path)
    if kind == "literal_error":
        return f"is unknown; {nearest(str(given), get_args(field.annotation))}"
    bounds = {name: context[name] for name in BOUNDS if name in context}
    if bounds:
        return f"must be {_bounds(bounds)}"
    return f"is not {KINDS[kind]}{_limits(field)}" if kind in KINDS else f"is not valid ({kind})"


def _dealt(given: Any, one: str, all_forms: str, form: str = "", *element: str) -> str:
    if form == "mix" and element[-1] != "[key]":
        return SHARE
    return one if element or isinstance(given, int | float) else all_forms


def _in_quotes(value: Any) -> str:
    return "; put it in quotes" if isinstance(value, int | float) else ""


def _bounds(bounds: Mapping[str, Any]) -> str:
    return " and ".join(f"{BOUNDS[name]} {limit:g}" for name, limit in bounds.items())


def _limits(field: FieldInfo) -> str:
    """' (at least 1)': the field's own limits, which pydantic leaves out when the type is wrong."""
    limits = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in BOUNDS
        if hasattr(limit, name)
    }
    return f" ({_bounds(limits)})" if limits else ""


def _section(name: str) -> str:
    keys = f"a mapping of keys ({', '.join(dict(_sections())[name])})"
    return f"a name or {keys}" if name in ("data", "algorithm") else keys


def _field(path: Keys) -> FieldInfo:
    return _siblings(path)[_split(path)[0][-1]]


def _siblings(path: Keys) -> Mapping[str, FieldInfo]:
    """The keys that may stand beside the one at `path`."""
    if len(_split(path)[0]) > 2:
        return POLICIES[path[2]].model_fields
    return dict(_sections()).get(path[0], {}) if len(path) > 1 else Recipe.model_fields


def _sections() -> Iterator[tuple[str, Mapping[str, FieldInfo]]]:
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation.model_fields


def _nearest_key(keys: Keys) -> str:
    """The hint for an unknown key: a sibling of nearly that name, else one from elsewhere."""
    siblings = _siblings(keys)
    if "." not in keys[-1] and difflib.get_close_matches(keys[-1], siblings, n=1, cutoff=0.75):
        return nearest(keys[-1], siblings)
    leaf = keys[-1].rpartition(".")[2]
    homes = [(section, key) for section, fields in _sections() for key in fields]
    close = difflib.get_close_matches(leaf, [key for _, key in homes], n=1, cutoff=0.75)
    if close:
        found = [f"{key!r} under {section!r}" for section, key in homes if key == close[0]]
        return f"did you mean {' or '.join(found)}?"
    return nearest(keys[-1], siblings)
