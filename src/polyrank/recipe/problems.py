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
from polyrank.recipe.schema import Recipe
from polyrank.recipe.values import SHARE

RANK = "a rank (a whole number, at least 1)"
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
    keys = tuple(map(str, loc))
    if details["type"] == "conflict":
        keys += tuple(details["ctx"]["key"].split("."))
        return Mistake(keys, keys, details["ctx"]["problem"])
    problem = _problem(details, keys)
    if keys[:2] == ("lora", "ranks"):  # keys[2] is the form that was recognised, not a key
        return Mistake((*keys[:2], *keys[3:4]), keys[:2], problem)
    return Mistake(keys, keys[:2], problem)


def _problem(details: ErrorDetails, keys: Keys) -> str:
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    if kind in ("extra_forbidden", "invalid_key"):
        return f"unknown key; {_nearest_key(keys)}"
    if kind == "missing":
        return "is missing"
    return f"{shown(given)} {_predicate(kind, given, context, keys)}"


def _predicate(kind: str, given: Any, context: Mapping[str, Any], keys: Keys) -> str:
    if kind == "value_error":
        return str(context["error"])
    if kind in ("too_short", "string_too_short"):
        return "is empty"
    if kind == "model_type":
        return f"is not {_section(keys[0])}"
    if keys[:2] == ("lora", "ranks"):
        return f"is not {_rank_or_share(given, *keys[2:])}"
    if kind == "string_type":
        return f"is not text{_in_quotes(given)}"
    field = _field(keys)
    if kind == "literal_error":
        return f"is unknown; {nearest(str(given), get_args(field.annotation))}"
    bounds = {name: context[name] for name in BOUNDS if name in context}
    if bounds:
        return f"must be {_bounds(bounds)}"
    return f"is not {KINDS[kind]}{_limits(field)}" if kind in KINDS else f"is not valid ({kind})"


def _rank_or_share(given: Any, form: str, *element: str) -> str:
    if form == "mix" and element[-1] != "[key]":
        return SHARE
    if element or isinstance(given, int | float):
        return RANK
    return f"{RANK}, a list such as [4, 8] or a mix such as {{4: 60%, 8: 40%}}"


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


def _field(keys: Keys) -> FieldInfo:
    return dict(_sections())[keys[0]][keys[1]] if len(keys) > 1 else Recipe.model_fields[keys[0]]


def _sections() -> Iterator[tuple[str, Mapping[str, FieldInfo]]]:
    for name, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation.model_fields


def _nearest_key(keys: Keys) -> str:
    """The hint for an unknown key: a sibling of nearly that name, else one from elsewhere."""
    siblings = dict(_sections()).get(keys[0], {}) if len(keys) > 1 else Recipe.model_fields
    if "." not in keys[-1] and difflib.get_close_matches(keys[-1], siblings, n=1, cutoff=0.75):
        return nearest(keys[-1], siblings)
    leaf = keys[-1].rpartition(".")[2]
    homes = [(section, key) for section, fields in _sections() for key in fields]
    close = difflib.get_close_matches(leaf, [key for _, key in homes], n=1, cutoff=0.75)
    if close:
        found = [f"{key!r} under {section!r}" for section, key in homes if key == close[0]]
        return f"did you mean {' or '.join(found)}?"
    return nearest(keys[-1], siblings)
