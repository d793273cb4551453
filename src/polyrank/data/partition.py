"""Who holds which examples: iid, label skew by Dirichlet or by shards, or natural owners.

    dirichlet(α):    q_k ~ Dir(α·1_clients) for each class k; client i holds a share q_ki of class k
    mixed(p%, α, β): q_i ~ Dir(α_i·1_classes) for each client i; p% of them have α_i = α, others β

Hsu, Qi and Brown (2019), arXiv:1909.06335; shards: McMahan et al. (2017), arXiv:1602.05629;
clients with two alphas: Byun and Lee (NAACL 2025), arXiv:2406.17477.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float64, Int64

from polyrank import seeds
from polyrank.errors import RecipeError
from polyrank.recipe.values import known_partition, mixture

Owner = Int64[np.ndarray, " examples"]


def partition(
    labels: Sequence[int], keys: Sequence[str] | None, kind: str, clients: int, seed: int
) -> list[Int64[np.ndarray, " _"]]:
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
        return _split(*_by_key(_owners(keys, kind)))
    if clients > len(labels):
        raise RecipeError("data.clients", f"{clients} clients cannot share {len(labels)} examples")
    classes = np.asarray(labels, np.int64)
    if name == "iid":
        owner = _iid(len(labels), clients, seed)
    elif name == "dirichlet":
        owner = _dirichlet(classes, float(argument), clients, seed)
    elif mixed := mixture(kind):
        owner = _mixed(classes, mixed, clients, seed)
    else:
        owner = _shards(classes, int(argument), clients, seed)
    return _split(owner, clients)


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


def _split(owner: Owner, clients: int) -> list[Int64[np.ndarray, " _"]]:
    """What each client holds, where each example's owner is known."""
    ends = np.cumsum(np.bincount(owner, minlength=clients))
    return np.split(np.argsort(owner, kind="stable"), ends[:-1])


def _by_key(keys: Sequence[str]) -> tuple[Owner, int]:
    """Each example's owner, and how many owners there are."""
    place = {key: client for client, key in enumerate(sorted(set(keys)))}
    return np.array([place[key] for key in keys], np.int64), len(place)


def _drawn(count: int, seed: int) -> Int64[np.ndarray, " examples"]:
    """All examples in an order drawn by seed."""
    return torch.randperm(count, generator=seeds.derive(seed, "partition")).numpy()


def _iid(count: int, clients: int, seed: int) -> Owner:
    owner = np.empty(count, np.int64)
    owner[_drawn(count, seed)] = np.arange(count) % clients
    return owner


def _dirichlet(labels: Owner, alpha: float, clients: int, seed: int) -> Owner:
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        # torch's own Dirichlet reads the global generator, and underflows for a small alpha.
        random = np.random.default_rng(seeds.number(seed, "partition", label))
        shares = random.dirichlet(np.full(clients, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        counts = np.diff(cuts, prepend=0, append=len(members))
        owner[random.permutation(members)] = np.repeat(np.arange(clients), counts)
    return owner


def _count(share: Fraction, clients: int) -> int:
    return max(1, math.floor(share * clients + Fraction(1, 2)))


def _served(clients: int, seed: int) -> list[int]:
    """The clients in the order in which they choose: the balanced ones stand first."""
    return torch.randperm(clients, generator=seeds.derive(seed, "partition", "clients")).tolist()


def _mixed(labels: Owner, mixed: tuple[Fraction, float, float], clients: int, seed: int) -> Owner:
    share, even, skewed = mixed
    order = _drawn(len(labels), seed)
    pools = [order[labels[order] == label] for label in np.unique(labels)]
    left, served = np.array([len(pool) for pool in pools]), _served(clients, seed)
    counts = np.zeros((clients, len(pools)), np.int64)
    # The balanced clients choose before any class is exhausted.
    for place, client in enumerate(served):
        alpha = even if place < _count(share, clients) else skewed
        random = np.random.default_rng(seeds.number(seed, "partition", "mix", client))
        mix = random.dirichlet(np.full(len(pools), alpha))
        size = len(labels) // clients + (client < len(labels) % clients)
        counts[place] = _take(mix, left, size)
        left -= counts[place]
    owner = np.empty(len(labels), np.int64)
    for pool, taken in zip(pools, counts.T, strict=True):
        owner[pool] = np.repeat(served, taken)
    return owner


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


def _shards(labels: Owner, each: int, clients: int, seed: int) -> Owner:
    count = each * clients
    if count > len(labels):
        problem = f"shards({each}) for {clients} clients needs {count} examples, not {len(labels)}"
        raise RecipeError("data.clients", problem)
    # Within a class the order is random; equal shards are dealt out at random.
    generator = seeds.derive(seed, "partition")
    order = torch.randperm(len(labels), generator=generator).numpy()
    order = order[np.argsort(labels[order], kind="stable")]
    dealt = torch.randperm(count, generator=generator).numpy()
    shard, owner = np.empty(count, np.int64), np.empty(len(labels), np.int64)
    shard[dealt] = np.arange(count) % clients
    sizes = np.diff(np.arange(count + 1) * len(labels) // count)
    owner[order] = np.repeat(shard, sizes)
    return owner
