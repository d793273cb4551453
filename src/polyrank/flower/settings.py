"""The run config of a Flower app: which recipe, where to, how many nodes, how long a round."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from polyrank.errors import PolyrankError
from polyrank.recipe import Recipe
from polyrank.recipe.load import load, parsed

KEYS = ("recipe", "folder", "min-nodes", "deadline")


class SettingsError(PolyrankError, ValueError):
    """A run config that cannot be used."""


class Settings(NamedTuple):
    """What the ServerApp is to do.

    Args:
        recipe: with its run folder's place as `output` and `name`.
        folder: the run folder.
        least: nodes that must be connected for a round to begin.
        deadline: seconds for a round.
    """

    recipe: Recipe
    folder: Path
    least: int
    deadline: float


def settings(config: Mapping[str, Any]) -> Settings:
    """The settings in a run config.

    Raises:
        SettingsError: a key that is missing, unknown or cannot be.
        RecipeError: what is wrong with the recipe, and where.
    """
    if unknown := sorted(set(config) - set(KEYS)):
        raise SettingsError(f"run config: unknown key {unknown[0]!r}; valid: {', '.join(KEYS)}")
    text = str(config.get("recipe", ""))
    if not text:
        raise SettingsError("run config: recipe is missing; give a name, a path or the whole YAML")
    whole = "\n" in text or ": " in text or text.startswith("{")
    recipe = parsed(text, "run config: recipe") if whole else load(text).recipe
    least, deadline = config.get("min-nodes", 1), config.get("deadline", 600)
    if not isinstance(least, int) or isinstance(least, bool) or least < 1:
        raise SettingsError(f"run config: min-nodes is {least!r}; give a whole number from 1")
    if not isinstance(deadline, int | float) or isinstance(deadline, bool) or not deadline > 0:
        raise SettingsError(f"run config: deadline is {deadline!r}; give seconds above 0")
    given = str(config.get("folder", ""))
    folder = Path(given).expanduser() if given else (recipe.output.dir / recipe.name).absolute()
    if not folder.is_absolute():
        raise SettingsError(f"run config: folder is {given!r}; give an absolute path")
    return Settings(recipe, folder, least, float(deadline))
