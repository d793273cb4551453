"""Which client trains which LoRA rank.

A budget is spent where it is worth most: max Σ q_i log r_i subject to Σ r_i ≤ R, 1 ≤ r_i ≤ r_max.
That ranks may differ under one budget, and promotion by validation loss, are from Byun & Lee
(NAACL 2025, arXiv 2406.17477); the objective is ours.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError

from polyrank.errors import RecipeError
from polyrank.recipe.places import dotted
from polyrank.recipe.policies import Budget, Memory, Quality, Ranks
from polyrank.recipe.problems import mistakes
from polyrank.recipe.values import one_memory_each, one_rank_each
from polyrank.seeds import derive

KEY = ("lora", "ranks")
CHECK: TypeAdapter[Any] = TypeAdapter(Ranks)
BYTES = 4  # a factor's float32
Spec = int | Sequence[int] | Mapping[int, str | float | int] | Budget | Memory | Quality
Checked = int | tuple[int, ...] | dict[int, float] | Budget | Memory | Quality
Value = TypeVar("Value", int, float)


def assign(spec: Spec, clients: int, seed: int) -> list[int]:
    """One rank for each client, as long as that takes no model: not for a budget or a memory.

    A mix is dealt by largest remainder, so that the counts add up to `clients`, at least one
    client to each rank with a share as long as there are enough, in an order drawn by seed.

    Args:
        spec: one rank for all, one rank per client, {rank: share} with shares '60%' or 0.6, or
            the quality policy, with which everyone starts at the low rank.
        clients: how many.
        seed: the recipe's.

    Raises:
        RecipeError: on lora.ranks.
    """
    ranks = _checked(spec)
    if isinstance(ranks, Budget | Memory):
        raise TypeError(f"the ranks of {ranks.policy!r} depend on the model")
    dealt = _dealt(ranks.low if isinstance(ranks, Quality) else ranks, clients, seed)
    if len(dealt) != clients:
        raise RecipeError(dotted(KEY), one_rank_each(len(dealt), clients))
    return dealt


def possible(spec: Spec) -> set[int]:
    """The ranks that clients may get; empty where only the model can tell (budget, memory).

    Raises:
        RecipeError: on lora.ranks.
    """
    ranks = _checked(spec)
    if isinstance(ranks, Budget | Memory):
        return set()
    if isinstance(ranks, Quality):
        return {ranks.low, ranks.high}
    if isinstance(ranks, int):
        return {ranks}
    if isinstance(ranks, dict):
        return {rank for rank, share in ranks.items() if share}
    return set(ranks)


def by_budget(
    spec: Budget, examples: Sequence[int], cost: int, most: int, each: float = BYTES
) -> list[int]:
    """The best ranks for an upload budget: max Σ q_i log r_i subject to Σ r_i · each·cost ≤ bytes.

    Each unit of rank costs the same and the gain of the next, q_i log((r_i+1)/r_i), only falls:
    taking the largest gain first is optimal. Ties go to the first client.

    Args:
        spec: the budget in MB, and the highest rank.
        examples: n_i of each client that takes part.
        cost: parameters per unit of rank, Σ over layers (m + n).
        most: the largest rank that the layers allow.
        each: bytes of a parameter in an upload.

    Raises:
        RecipeError: on lora.ranks, where not even rank 1 everywhere is within the budget.
    """
    clients, most = len(examples), min(spec.most, most)
    unit = Fraction(each) * cost
    left = int(Fraction(str(spec.mb)) * 10**6 / unit) - clients
    if left < 0:
        needed = rounded_up(Decimal(float(clients * unit)) / 10**6)
        raise RecipeError(
            dotted(KEY),
            f"{spec.mb:g} MB is too little for rank 1 at {clients} clients; "
            f"the smallest that works is {needed} MB",
        )
    ranks = [1] * clients
    gains = [(-n * math.log1p(1), i) for i, n in enumerate(examples)] if most > 1 else []
    heapq.heapify(gains)
    while left and gains:
        _, i = heapq.heappop(gains)
        ranks[i] += 1
        left -= 1
        if ranks[i] < most:
            heapq.heappush(gains, (-examples[i] * math.log1p(1 / ranks[i]), i))
    return ranks


def memories(spec: Memory, clients: int, seed: int) -> list[float]:
    """Each client's memory in GiB; a mix is dealt as a mix of ranks is.

    Args:
        spec: one memory for all, one per client, or {GiB: share}.
        clients: how many.
        seed: the recipe's.

    Raises:
        RecipeError: on lora.ranks.gib, where a list is not as long as there are clients.
    """
    dealt = _dealt(spec.gib, clients, seed)
    if len(dealt) != clients:
        raise RecipeError("lora.ranks.gib", one_memory_each(len(dealt), clients))
    return dealt


def promote(spec: Quality, losses: Mapping[str, float]) -> dict[str, int]:
    """The ranks after the warm-up: high for the share with the lowest loss, low for the others.

    The share of the clients is rounded half up, and at least one. Ties go by id; a loss that is
    not finite is above all others.

    Args:
        spec: low, high and the share.
        losses: each client's validation loss, by id.
    """
    order = sorted(losses, key=lambda id: (*_finite_first(losses[id]), id))
    count = max(1, math.floor(Fraction(str(spec.share)) * len(order) + Fraction(1, 2)))
    high = set(order[:count])
    return {id: spec.high if id in high else spec.low for id in losses}


def rounded_up(value: Decimal) -> str:
    """Three digits of a number that is at least the value: what to name as a smallest size."""
    return format(Context(prec=3, rounding=ROUND_CEILING).create_decimal(value), "f")


def _finite_first(loss: float) -> tuple[bool, float]:
    return (False, loss) if math.isfinite(loss) else (True, 0.0)


def _checked(spec: Spec) -> Checked:
    try:
        checked: Checked = CHECK.validate_python(spec)
    except ValidationError as error:
        mistake = mistakes(error, below=KEY)[0]
        raise RecipeError(dotted(mistake.key), mistake.problem) from None
    return checked


def _dealt(
    values: Value | tuple[Value, ...] | dict[Value, float], clients: int, seed: int
) -> list[Value]:
    """The value of each client; of a list, its own."""
    if isinstance(values, tuple):
        return list(values)
    if not isinstance(values, dict):
        return [values] * clients
    dealt = [value for value, count in _counts(values, clients).items() for _ in range(count)]
    order = torch.randperm(clients, generator=derive(seed, "ranks"))
    return [dealt[place] for place in order.tolist()]


def _counts(mix: Mapping[Value, float], clients: int) -> dict[Value, int]:
    """Clients by value: the floors of the quotas, then one more to the largest remainders."""
    shares = {value: Fraction(str(mix[value])) for value in sorted(mix)}
    quotas = {value: share / sum(shares.values()) * clients for value, share in shares.items()}
    counts = {value: int(quota) for value, quota in quotas.items()}
    by_remainder = sorted(counts, key=lambda value: counts[value] - quotas[value])
    for value in by_remainder[: clients - sum(counts.values())]:
        counts[value] += 1
    left_out = [value for value in counts if quotas[value] and not counts[value]]
    for value in left_out if clients >= sum(map(bool, quotas.values())) else ():
        donor = max((v for v in counts if counts[v] > 1), key=lambda v: counts[v] - quotas[v])
        counts[donor] -= 1
        counts[value] += 1
    return counts
