"""Finding algorithms by file name: algorithms/zero_pad.py is `zero-pad`.

A file in this folder offers `ABOUT` and `build(**options) -> Algorithm`; the options are
build's keyword arguments, and nothing else needs to know that the file exists.
"""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from polyrank.algorithm import About, Algorithm
from polyrank.errors import RecipeError, nearest


def names() -> list[str]:
    """Every algorithm's name, sorted."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__))


def about(name: str) -> About:
    """What the algorithm's file says of itself."""
    found: About = _module(name).ABOUT
    return found


def summary(name: str) -> str:
    """The first line of the file's docstring."""
    return (inspect.getdoc(_module(name)) or "").partition("\n")[0]


def options(name: str) -> dict[str, Any]:
    """The algorithm's own options with their defaults."""
    parameters = inspect.signature(_module(name).build).parameters
    return {key: p.default for key, p in parameters.items()}


def load(name: str, **chosen: Any) -> Algorithm:
    """The algorithm `name` with its options; an unknown name or option is a RecipeError."""
    module, valid = _module(name), options(name)
    hints = get_type_hints(module.build, include_extras=True)
    for key, value in chosen.items():
        if key not in valid:
            hint = nearest(key, valid) if valid else "it has none"
            raise RecipeError(f"algorithm.{key}", f"{name} has no such option; {hint}")
        try:
            chosen[key] = TypeAdapter(hints[key]).validate_python(value, strict=True)
        except ValidationError as error:
            raise RecipeError(
                f"algorithm.{key}", f"{value!r}: {error.errors()[0]['msg'].lower()}"
            ) from None
    algorithm: Algorithm = module.build(**chosen)
    return algorithm


def _module(name: str) -> ModuleType:
    if name not in names():
        raise RecipeError("algorithm.name", f"no algorithm {name!r}; {nearest(name, names())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
