"""Whether a recipe can run: found out before a run folder is made or an old one replaced."""

from polyrank import algorithms, ranks
from polyrank.client import model
from polyrank.errors import RecipeError
from polyrank.experiment.setup import Setup, prepare, roster
from polyrank.lora.factor import Factors
from polyrank.messages import Client
from polyrank.recipe import Recipe


def checked(recipe: Recipe) -> None:
    """Find what is wrong with a recipe's algorithm before any model or data is loaded.

    Raises:
        RecipeError: no such algorithm or option, or ranks that it cannot have.
    """
    algorithms.load(recipe.algorithm.name, **recipe.algorithm.options)
    _refuse_mixed_ranks(recipe, ranks.possible(recipe.lora.ranks))


def prepared(recipe: Recipe) -> Setup:
    """Model and data for a recipe, with which it can run.

    Raises:
        PolyrankError: whatever is wrong with the recipe, the data or the model.
    """
    checked(recipe)
    setup = prepare(recipe)
    fitting(recipe, setup)
    return setup


def fitting(recipe: Recipe, setup: Setup) -> tuple[list[Client], dict[str, str], Factors]:
    """Who takes part, who cannot and why, and factors of the largest rank for the model's layers.

    Raises:
        PolyrankError: nobody has data, or ranks that model or algorithm cannot have.
    """
    clients, idle = roster(recipe, setup)
    _refuse_mixed_ranks(recipe, {c.rank for c in clients})
    return clients, idle, model.template(setup.bench, max(c.rank for c in clients))


def _refuse_mixed_ranks(recipe: Recipe, found: set[int]) -> None:
    name = recipe.algorithm.name
    if len(found) > 1 and not algorithms.about(name).mixed:
        able = ", ".join(n for n in algorithms.names() if algorithms.about(n).mixed)
        raise RecipeError(
            "algorithm.name",
            f"{name} needs equal ranks, but the clients have {', '.join(map(str, sorted(found)))}; "
            f"set lora.ranks to one number, or use an algorithm for mixed ranks: {able}",
        )
