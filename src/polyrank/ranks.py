"""Which client trains which LoRA rank."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from polyrank.errors import RecipeError
from polyrank.recipe.problems import mistakes
from polyrank.recipe.values import Ranks, one_rank_each
from polyrank.seeds import derive

KEY = ("lora", "ranks")
CHECK: TypeAdapter[Any] = TypeAdapter(Ranks)
Spec = int | Sequence[int] | Mapping[int, str | float | int]


def assign(spec: Spec, clients: int, seed: int) -> list[int]:
    """One rank for each client.

    A mix is dealt by largest remainder, so that the counts add up to `clients`, at least one
    client to each rank with a share as long as there are enough, in an order drawn by seed.

    Args:
        spec: one rank for all, one rank per client, or {rank: share} with shares '60%' or 0.6.
        clients: how many.
        seed: the recipe's.

    Raises:
        RecipeError: on lora.ranks.
    """
    ranks = _checked(spec)
    if isinstance(ranks, int):
        return [ranks] * clients
    if isinstance(ranks, Mapping):
        dealt = [rank for rank, count in _counts(ranks, clients).items() for _ in range(count)]
        order = torch.randperm(clients, generator=derive(seed, "ranks"))
        return [dealt[place] for place in order.tolist()]
    if len(ranks) != clients:
        raise RecipeError(".".join(KEY), one_rank_each(len(ranks), clients))
    return list(ranks)


def possible(spec: Spec) -> set[int]:
    """The ranks that clients may get.

    Raises:
        RecipeError: on lora.ranks.
    """
    ranks = _checked(spec)
    if isinstance(ranks, int):
        return {ranks}
    if isinstance(ranks, Mapping):
        return {rank for rank, share in ranks.items() if share}
    return set(ranks)


def _checked(spec: Spec) -> int | Sequence[int] | Mapping[int, float]:
    try:
        checked: int | tuple[int, ...] | dict[int, float] = CHECK.validate_python(spec)
    except ValidationError as error:
        raise RecipeError(".".join(KEY), mistakes(error, below=KEY)[0].problem) from None
    return checked


def _counts(mix: Mapping[int, float], clients: int) -> dict[int, int]:
    """Clients by rank: the floors of the quotas, then one more to the largest remainders."""
    shares = {rank: Fraction(str(mix[rank])) for rank in sorted(mix)}
    quotas = {rank: share / sum(shares.values()) * clients for rank, share in shares.items()}
    counts = {rank: int(quota) for rank, quota in quotas.items()}
    by_remainder = sorted(counts, key=lambda rank: counts[rank] - quotas[rank])
    for rank in by_remainder[: clients - sum(counts.values())]:
        counts[rank] += 1
    left_out = [rank for rank in counts if quotas[rank] and not counts[rank]]
    for rank in left_out if clients >= sum(map(bool, quotas.values())) else ():
        donor = max((r for r in counts if counts[r] > 1), key=lambda r: counts[r] - quotas[r])
        counts[donor] -= 1
        counts[rank] += 1
    return counts
