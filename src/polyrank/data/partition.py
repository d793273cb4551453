"""Who holds which examples: iid, label skew by Dirichlet or by shards, or natural owners.

    dirichlet(α):  q_k ~ Dir(α·1_clients) for each class k; client i holds a share q_ki of class k

Hsu, Qi and Brown (2019), arXiv:1909.06335; shards: McMahan et al. (2017), arXiv:1602.05629.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from polyrank import seeds
from polyrank.errors import RecipeError


def partition(
    labels: Sequence[int], keys: Sequence[str] | None, kind: str, clients: int, seed: int
) -> list[list[int]]:
    """The indices that each client holds: every index exactly once, ascending.

    Args:
        labels: the class of each example.
        keys: the owner of each example, for key(...).
        kind: a recipe's `data.partition`: iid, dirichlet(α), shards(n) or key(column).
        clients: how many; key(...) has one for each owner instead.
        seed: the run's root seed.

    Raises:
        RecipeError: fewer examples than clients (or shards), a missing key, an unusable α.
    """
    name, _, argument = kind.rstrip(")").partition("(")
    if name == "key":
        return _by_key(_owners(keys, kind))
    if clients > len(labels):
        raise RecipeError("data.clients", f"{clients} clients cannot share {len(labels)} examples")
    if name == "iid":
        parts = _iid(len(labels), clients, seed)
    elif name == "dirichlet":
        parts = _dirichlet(labels, float(argument), clients, seed)
    elif name == "shards":
        parts = _shards(labels, int(argument), clients, seed)
    else:
        raise RecipeError("data.partition", f"{kind!r} is none of iid, dirichlet, shards, key")
    return [sorted(part) for part in parts]


def names(keys: Sequence[str] | None, kind: str, clients: int) -> list[str]:
    """The clients' names in the order of `partition`: the owners, or numbers of equal width."""
    if kind.startswith("key("):
        return sorted(set(_owners(keys, kind)))
    width = len(str(clients - 1))
    return [f"{client:0{width}}" for client in range(clients)]


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
    if not 0 < alpha < float("inf"):
        raise RecipeError("data.partition", f"dirichlet({alpha:g}) needs an alpha above 0")
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


def _shards(labels: Sequence[int], each: int, clients: int, seed: int) -> list[list[int]]:
    count = each * clients
    if count > len(labels):
        problem = f"shards({each}) for {clients} clients needs {count} examples, not {len(labels)}"
        raise RecipeError("data.clients", problem)
    # Within a class the order is random; equal shards are dealt out at random.
    generator = seeds.derive(seed, "partition")
    order = sorted(
        torch.randperm(len(labels), generator=generator).tolist(), key=labels.__getitem__
    )
    ends = [shard * len(labels) // count for shard in range(count + 1)]
    shards = [order[start:end] for start, end in pairwise(ends)]
    dealt = torch.randperm(count, generator=generator).tolist()
    return [
        [index for shard in dealt[client::clients] for index in shards[shard]]
        for client in range(clients)
    ]
