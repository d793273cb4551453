"""Who holds which examples: iid, label skew by Dirichlet or by shards, or natural owners.

    dirichlet(α):    q_k ~ Dir(α·1_clients) for each class k; client i holds a share q_ki of class k
    mixed(p%, α, β): q_i ~ Dir(α_i·1_classes) for each client i; p% of them have α_i = α, others β

Hsu, Qi and Brown (2019), arXiv:1909.06335; shards: McMahan et al. (2017), arXiv:1602.05629;
clients with two alphas: Byun and Lee (NAACL 2025), arXiv:2406.17477.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float64, Int64

from polyrank import seeds
from polyrank.errors import RecipeError
from polyrank.recipe.values import known_partition, mixture


def partition(
    labels: Sequence[int], keys: Sequence[str] | None, kind: str, clients: int, seed: int
) -> list[list[int]]:
    """The indices that each client holds: every index exactly once, ascending.

    Args:
        labels: the class of each example.
        keys: the owner of each example, for key(...).
        kind: a recipe's `data.partition`: iid, dirichlet(α), mixed(p%, α, β), shards(n) or
            key(column).
        clients: how many; key(...) has one for each owner instead.
        seed: the run's root seed.

    Raises:
        RecipeError: fewer examples than clients (or shards), a missing key, an unusable argument.
    """
    try:
        known_partition(kind)
    except ValueError as error:
        raise RecipeError("data.partition", f"{kind!r} {error}") from error
    name, _, argument = kind.rstrip(")").partition("(")
    if name == "key":
        return _by_key(_owners(keys, kind))
    if clients > len(labels):
        raise RecipeError("data.clients", f"{clients} clients cannot share {len(labels)} examples")
    if name == "iid":
        parts = _iid(len(labels), clients, seed)
    elif name == "dirichlet":
        parts = _dirichlet(labels, float(argument), clients, seed)
    elif mixed := mixture(kind):
        parts = _mixed(labels, mixed, clients, seed)
    else:
        parts = _shards(labels, int(argument), clients, seed)
    return [sorted(part) for part in parts]


def names(keys: Sequence[str] | None, kind: str, clients: int) -> list[str]:
    """The clients' names in the order of `partition`: the owners, or numbers of equal width."""
    if kind.startswith("key("):
        return sorted(set(_owners(keys, kind)))
    width = len(str(clients - 1))
    return [f"{client:0{width}}" for client in range(clients)]


def balanced(kind: str, clients: int, seed: int) -> list[int]:
    """The clients of mixed(p%, α, β) that have α, ascending: ⌊p·clients + ½⌋, at least one.

    Args:
        kind: a recipe's `data.partition`; other kinds than mixed have no such clients.
        clients: how many in all.
        seed: the run's root seed.
    """
    mixed = mixture(kind)
    return sorted(_served(clients, seed)[: _count(mixed[0], clients)] if mixed else [])


def hold_out(
    indices: Sequence[int], share: float, seed: int, *path: str | int
) -> tuple[list[int], list[int]]:
    """(kept, held out), both ascending: round(share·n) are held out, and neither side is empty.

    Args:
        indices: a single one is kept.
        share: 0 holds out nothing.
        seed: the run's root seed.
        path: names this draw under the seed.
    """
    count = 0
    if share and len(indices) > 1:
        count = min(max(1, round(share * len(indices))), len(indices) - 1)
    order = torch.randperm(len(indices), generator=seeds.derive(seed, *path)).tolist()
    drawn = [indices[place] for place in order]
    return sorted(drawn[count:]), sorted(drawn[:count])


def _owners(keys: Sequence[str] | None, kind: str) -> Sequence[str]:
    if keys is None:
        raise RecipeError("data.partition", f"{kind!r} names a column that this data does not have")
    return keys


def _by_key(keys: Sequence[str]) -> list[list[int]]:
    held: dict[str, list[int]] = {key: [] for key in sorted(set(keys))}
    for index, key in enumerate(keys):
        held[key].append(index)
    return list(held.values())


def _iid(count: int, clients: int, seed: int) -> list[list[int]]:
    order = torch.randperm(count, generator=seeds.derive(seed, "partition")).tolist()
    return [order[client::clients] for client in range(clients)]


def _dirichlet(labels: Sequence[int], alpha: float, clients: int, seed: int) -> list[list[int]]:
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in sorted(set(labels)):
        members = np.flatnonzero(np.asarray(labels) == label)
        # torch's own Dirichlet reads the global generator, and underflows for a small alpha.
        random = np.random.default_rng(seeds.number(seed, "partition", label))
        shares = random.dirichlet(np.full(clients, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for part, share in zip(parts, np.split(random.permutation(members), cuts), strict=True):
            part.extend(share.tolist())
    return parts


def _count(share: Fraction, clients: int) -> int:
    return max(1, math.floor(share * clients + Fraction(1, 2)))


def _served(clients: int, seed: int) -> list[int]:
    """The clients in the order in which they choose: the balanced ones stand first."""
    return torch.randperm(clients, generator=seeds.derive(seed, "partition", "clients")).tolist()


def _mixed(
    labels: Sequence[int], mixed: tuple[Fraction, float, float], clients: int, seed: int
) -> list[list[int]]:
    share, even, skewed = mixed
    pools = _pools(labels, seed)
    parts: list[list[int]] = [[] for _ in range(clients)]
    # The balanced clients choose before any class is exhausted.
    for place, client in enumerate(_served(clients, seed)):
        alpha = even if place < _count(share, clients) else skewed
        random = np.random.default_rng(seeds.number(seed, "partition", "mix", client))
        mix = random.dirichlet(np.full(len(pools), alpha))
        size = len(labels) // clients + (client < len(labels) % clients)
        counts = _take(mix, np.array([len(pool) for pool in pools]), size)
        for pool, count in zip(pools, counts.tolist(), strict=True):
            parts[client].extend(pool[:count])
            del pool[:count]
    return parts


def _pools(labels: Sequence[int], seed: int) -> list[list[int]]:
    """The examples of each class, in an order drawn by seed."""
    pools: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    generator = seeds.derive(seed, "partition")
    for index in torch.randperm(len(labels), generator=generator).tolist():
        pools[labels[index]].append(index)
    return list(pools.values())


def _take(
    mix: Float64[np.ndarray, " classes"], left: Int64[np.ndarray, " classes"], size: int
) -> Int64[np.ndarray, " classes"]:
    """How many of each class: `size` in proportion to `mix`, with never more than is left."""
    taken = np.zeros_like(left)
    while (due := size - int(taken.sum())) > 0:
        rest = left - taken
        upto = np.cumsum(np.where(rest > 0, mix, 0.0))
        if not upto[-1]:
            upto = np.cumsum(rest.astype(np.float64))
        ends = np.rint(due * (upto / upto[-1])).astype(np.int64)
        taken += np.minimum(np.diff(ends, prepend=0), rest)
    return taken


def _shards(labels: Sequence[int], each: int, clients: int, seed: int) -> list[list[int]]:
    count = each * clients
    if count > len(labels):
        problem = f"shards({each}) for {clients} clients needs {count} examples, not {len(labels)}"
        raise RecipeError("data.clients", problem)
    # Within a class the order is random; equal shards are dealt out at random.
    generator = seeds.derive(seed, "partition")
    order = torch.randperm(len(labels), generator=generator).tolist()
    order.sort(key=labels.__getitem__)
    ends = [shard * len(labels) // count for shard in range(count + 1)]
    shards = [order[start:end] for start, end in pairwise(ends)]
    dealt = torch.randperm(count, generator=generator).tolist()
    return [
        [index for shard in dealt[client::clients] for index in shards[shard]]
        for client in range(clients)
    ]
