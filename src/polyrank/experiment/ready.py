"""Whether a recipe can run: found out before a run folder is made or an old one replaced."""

import math
from collections.abc import Sequence
from functools import partial

import torch

from polyrank import algorithms, ranks
from polyrank.algorithm import Algorithm
from polyrank.client import initial, model
from polyrank.errors import RecipeError
from polyrank.experiment.setup import Setup, prepare, roster
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client
from polyrank.recipe import Recipe
from polyrank.recipe.policies import Quality
from polyrank.server.loop import Plan, Reply
from polyrank.server.optimizer import can_step
from polyrank.track.following import available

Who = tuple[list[Client], dict[str, str]]  # who takes part; who cannot, and why


def checked(recipe: Recipe) -> None:
    """Find what is wrong with a recipe's algorithm before any model or data is loaded.

    Raises:
        RecipeError: no such algorithm or option, ranks that it cannot have, a tracker that is not
            installed, or an adapter to begin with that cannot be read or is of another base.
    """
    available(recipe.track)
    algorithm = algorithms.load(recipe.algorithm.name, **recipe.algorithm.options)
    _refuse_mixed_ranks(recipe, ranks.possible(recipe.lora.ranks))
    _refuse_optimizer(recipe, algorithm)
    if recipe.lora.init_from is not None:
        initial.opened(recipe.lora.init_from, recipe.model)
    if isinstance(recipe.lora.ranks, Quality) and not recipe.data.validation:
        raise RecipeError(
            "lora.ranks.policy", "quality needs data.validation, such as 0.2: a share of each "
            "client's examples on which it measures its loss",
        )  # fmt: skip


def prepared(recipe: Recipe) -> Setup:
    """Model and data for a recipe, with which it can run.

    Raises:
        PolyrankError: whatever is wrong with the recipe, the data or the model.
    """
    checked(recipe)
    setup = prepare(recipe)
    fitting(recipe, setup)
    return setup


def fitting(
    recipe: Recipe, setup: Setup, who: Who | None = None
) -> tuple[list[Client], dict[str, str], Factors]:
    """Who takes part, who cannot and why, and factors of the largest rank for the model's layers.

    Args:
        recipe: what is done.
        setup: model and data.
        who: the clients, where they are not those of the recipe's own partition.

    Raises:
        PolyrankError: nobody has data, or ranks that model or algorithm cannot have.
    """
    clients, idle = who or roster(recipe, setup)
    _refuse_mixed_ranks(recipe, {c.rank for c in clients})
    top = max(c.rank for c in clients)
    if isinstance(recipe.lora.ranks, Quality):
        top = recipe.lora.ranks.high
    return clients, idle, model.template(setup.bench, top)


def _refuse_optimizer(recipe: Recipe, algorithm: Algorithm) -> None:
    name, how = recipe.algorithm.name, recipe.aggregation.optimizer
    if how != "none" and not _can_step(algorithm):
        able = [n for n in algorithms.names() if _can_step(algorithms.load(n))]
        raise RecipeError(
            "aggregation.optimizer",
            f"{name} sends what it added up, which {how} would change; use none, or one of "
            f"{', '.join(able)}",
        )


def _can_step(algorithm: Algorithm) -> bool:
    layer = Factor(torch.zeros(1, 1), torch.zeros(1, 1))
    return can_step(algorithm.init({"layer": layer}, 0))


def planned(recipe: Recipe, setup: Setup, who: Who | None = None) -> tuple[Plan, dict[str, str]]:
    """What stays the same over the rounds of a recipe; and who takes no part, and why.

    Args:
        recipe: what is done.
        setup: model and data.
        who: the clients, where they are not those of the recipe's own partition.

    Raises:
        PolyrankError: as for `fitting`.
    """
    clients, idle, template = fitting(recipe, setup, who)
    about = algorithms.about(recipe.algorithm.name)
    weights = recipe.aggregation.weights or about.weights
    policy = recipe.lora.ranks
    plan = Plan(
        algorithms.load(recipe.algorithm.name, **recipe.algorithm.options),
        clients,
        template,
        recipe.rounds,
        recipe.participation,
        recipe.seed,
        recipe.aggregation.model_copy(update={"weights": weights}),
        shared=not about.personal,
    )
    if not isinstance(policy, Quality):
        return plan, idle
    return plan._replace(warmup=policy.warmup, promote=partial(_promoted, policy)), idle


def _promoted(policy: Quality, round: int, replies: Sequence[Reply]) -> dict[str, int]:
    """By data quality: after the warm-up, by the losses that clients measured."""
    if round != policy.warmup:
        return {}
    uploads = [r.upload for r in replies if r.upload is not None]
    # Of one that says nothing of its loss (it may have one example alone) nothing is known.
    losses = {u.client.id: u.metrics.get("val_loss", math.inf) for u in uploads}
    return ranks.promote(policy, losses)


def _refuse_mixed_ranks(recipe: Recipe, found: set[int]) -> None:
    name = recipe.algorithm.name
    if len(found) > 1 and not algorithms.about(name).mixed:
        able = ", ".join(n for n in algorithms.names() if algorithms.about(n).mixed)
        raise RecipeError(
            "algorithm.name",
            f"{name} needs equal ranks, but the clients have {', '.join(map(str, sorted(found)))}; "
            f"set lora.ranks to one number, or use an algorithm for mixed ranks: {able}",
        )
