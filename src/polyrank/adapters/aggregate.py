"""Finished adapters of any ranks and scales become one, by any algorithm that needs no rounds.

Each is one upload of a round that begins from nothing. A layer that only some adapt is aggregated
over those, and so is a tensor that is kept whole (a head, a bias), by its weighted mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from polyrank import algorithms
from polyrank.adapters.opened import wide
from polyrank.adapters.together import Together
from polyrank.errors import AdapterError, RecipeError, nearest
from polyrank.lora.algebra import truncate
from polyrank.lora.factor import Adapter, Factor, Factors
from polyrank.lora.incoming import Incoming
from polyrank.messages import Client, Upload


class Choice(NamedTuple):
    """An algorithm by its name, with its options."""

    name: str
    options: Mapping[str, Any] = {}


def able() -> list[str]:
    """The algorithms that need no rounds."""
    return [name for name in algorithms.names() if not algorithms.about(name).rounds]


def aggregated(
    adapters: Sequence[Incoming], weights: Sequence[float], choice: Choice, common: Together
) -> tuple[Factors, Mapping[str, Tensor]]:
    """(factors, tensors kept whole) of all the adapters in one, in float64.

    Args:
        adapters: at least one.
        weights: how much each counts.
        choice: how.
        common: what `together` says of them.

    Raises:
        AdapterError: no such algorithm, or one that needs rounds.
        RankError: the algorithm needs equal ranks.
    """
    algorithm = _loaded(choice)
    factors = [wide(one.adapter.factors) for one in adapters]
    top = max(f.rank for own in factors for f in own.values())
    least = top if algorithms.about(choice.name).mixed else 0
    template = {n: _empty([own[n] for own in factors if n in own], least) for n in common.layers}
    uploads = (
        Upload(Client(str(one.path), max(f.rank for f in own.values())), own, 0, weight=weight)
        for one, own, weight in zip(adapters, factors, weights, strict=True)
    )
    state, _ = algorithm.aggregate(algorithm.init(template, 0), uploads)
    found = {name: _trimmed(f) for name, f in algorithm.read(state).items()}
    return found, _mean([one.adapter for one in adapters], weights)


def _loaded(choice: Choice) -> Any:
    names = algorithms.names()
    if choice.name not in names:
        raise AdapterError(f"no algorithm {choice.name!r}; {nearest(choice.name, names)}")
    if why := algorithms.about(choice.name).rounds:
        raise AdapterError(
            f"{choice.name} needs rounds: {why}; these need none: {', '.join(able())}"
        )
    try:
        return algorithms.load(choice.name, **choice.options)
    except RecipeError as error:
        raise AdapterError(
            f"--option {error.key.removeprefix('algorithm.')}: {error.problem}"
        ) from None


def _empty(factors: Sequence[Factor], least: int) -> Factor:
    """No update, at the largest of these ranks; at `least`, where the layer has as many."""
    out, width = factors[0].shape
    rank = max(*(f.rank for f in factors), min(least, out, width))
    return Factor(factors[0].a.new_zeros(rank, width), factors[0].b.new_zeros(out, rank))


def _trimmed(f: Factor) -> Factor:
    """Without slots at the end that nobody filled."""
    filled = (f.a != 0).any(dim=1) | (f.b != 0).any(dim=0)
    return truncate(f, int(filled.nonzero().max()) + 1 if filled.any() else 0)


def _mean(adapters: Sequence[Adapter], weights: Sequence[float]) -> dict[str, Tensor]:
    """Each tensor's weighted mean over the adapters that have it."""
    found = {}
    for name in sorted({name for a in adapters for name in a.dense}):
        held = [(a.dense[name].double(), w) for a, w in zip(adapters, weights, strict=True)
                if name in a.dense]  # fmt: skip
        total = sum(w for _, w in held)
        found[name] = torch.stack([t * (w / total) for t, w in held]).sum(dim=0)
    return found
