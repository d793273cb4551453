"""YAML and `key=value` overrides to a typed recipe, or to one line that says why not; and back."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from polyrank.errors import RecipeError, nearest
from polyrank.recipe.override import override
from polyrank.recipe.places import Document, MistakeError, Place, shown
from polyrank.recipe.problems import first, mistakes
from polyrank.recipe.schema import Recipe
from polyrank.recipe.text import Dumper, NotYaml, complaint, parse
from polyrank.seeds import fingerprint

BUNDLED = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid recipe, and where each of its keys was said."""

    recipe: Recipe
    document: Document

    def where(self, key: str) -> str:
        """`demo.yaml:7` or `command line`; a key that nobody gave is at its parent or the file."""
        return str(self.document.place(key.split(".")))


def load(path: Path | str, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe; overrides win over the file, later ones over earlier ones.

    Args:
        path: a YAML file, or the bare name of a recipe that comes with the package.
        overrides: `key=value` with dotted keys, the value as YAML: `lora.ranks=[2,4,8]`.

    Raises:
        RecipeError: whose text is one line: place, key, value, what is expected.
    """
    return _validated(reduce(override, overrides, _read(_find(Path(path)))))


def parsed(text: str, source: str) -> Recipe:
    """The recipe that is this YAML text.

    Args:
        text: whole.
        source: what to call it in errors.

    Raises:
        RecipeError: as for `load`.
    """
    return _validated(_document(text, source)).recipe


def located(error: RecipeError, loaded: Loaded) -> str:
    """One line, with the place, for a mistake that a later room finds in a valid recipe."""
    if isinstance(error, MistakeError):
        return str(error)
    return str(MistakeError(loaded.where(error.key), error.key, error.problem))


def dump(recipe: Recipe) -> str:
    """YAML with every key, defaults too, that loads back to an equal recipe."""
    return _yaml(_plain(recipe.model_dump()), sort_keys=False)


def digest(recipe: Recipe) -> str:
    """SHA-256 over all that can change results: all but `name`, `output` and `track`."""
    content = _plain(recipe.model_dump(exclude={"name", "output", "track"}))
    return fingerprint(_yaml(content, sort_keys=True).encode())


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe file, shorthands included, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Recipe.model_json_schema(),
        "title": "polyrank recipe",
    }


def bundled() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {file.stem: file for file in sorted(BUNDLED.glob("*.yaml"))}


def _find(path: Path) -> Path:
    if os.path.isfile(path):
        return path
    bare = path.parent == Path() and not path.suffix
    if bare and path.name in bundled():
        return bundled()[path.name]
    beside = [file.name for file in path.parent.glob("*.y*ml")]
    names = {*beside, *(bundled() if path.parent == Path() else ())}
    hint = f"; {nearest(path.name, names)}" if names else ""
    problem = "is a folder, not a recipe" if os.path.isdir(path) else "no such recipe"
    raise MistakeError(str(path), "", problem + hint)


def _read(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MistakeError(str(path), "", f"is not text in UTF-8 ({error.reason})") from None
    except OSError as error:
        raise MistakeError(str(path), "", f"cannot be read: {error.strerror}") from None
    return _document(text, str(path))


def _document(text: str, source: str) -> Document:
    try:
        values, places = parse(text, lambda mark: Place(source, mark.line + 1, mark.column))
    except NotYaml as error:
        line, column, problem = complaint(error, text)
        raise MistakeError(f"{source}:{line}:{column}", "", f"not YAML: {problem}") from None
    if not places:
        raise MistakeError(source, "", "is empty; {} is the recipe of all defaults")
    if not isinstance(values, dict):
        raise MistakeError(places[()], "", f"{shown(values)} is not a mapping such as 'rounds: 10'")
    return Document(values, places, source)


def _validated(document: Document) -> Loaded:
    try:
        return Loaded(Recipe.model_validate(document.values), document)
    except ValidationError as error:
        raise first(mistakes(error), document) from None


def _yaml(content: Any, *, sort_keys: bool) -> str:
    return yaml.dump(content, Dumper=Dumper, sort_keys=sort_keys, allow_unicode=True, width=100)


def _plain(value: Any) -> Any:
    """Paths as strings and tuples as lists: YAML has neither."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
