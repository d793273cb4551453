"""What a federation is to be, before any file of it: its sites, its address, its recipe."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from polyrank.data import partition
from polyrank.errors import FederationError, RecipeError
from polyrank.recipe import Recipe

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?")
LOOPBACK = ("localhost", "127.0.0.1")
_RANKS = (2, 8, 32, 4, 16)


@dataclass(frozen=True, slots=True)
class Plan:
    """A federation.

    Args:
        recipe: what it trains.
        clients: by site, the client of the recipe's own partition that it begins as.
        hosts: names and addresses of the server; sites call the first one.
        port: of the server, which sites call.
        inner: the SuperLink's own on the server's loopback; the same if there is no door before it.
        ports: by site, the port that its SuperNode uses on its own machine's loopback.
        deadline: seconds that a round may take.
    """

    recipe: Recipe
    clients: dict[str, str]
    hosts: tuple[str, ...]
    port: int
    inner: int
    ports: dict[str, int]
    deadline: int = 600


def site_names(count: int) -> list[str]:
    """`site-1`, `site-2`…"""
    return [f"site-{number}" for number in range(1, count + 1)]


def brief(recipe: str, sites: int) -> list[str]:
    """What makes the bundled demo short, with a client and a rank for each site; as `key=value`."""
    if recipe != "demo":
        return []
    ranks = [_RANKS[i % len(_RANKS)] for i in range(sites)]
    size = [f"data.clients={sites}", f"data.train_examples={160 * sites}"]
    return [
        *size,
        "data.test_examples=300",
        f"lora.ranks={ranks}",
        "rounds=3",
        "evaluation.every=1",
    ]


def first_clients(recipe: Recipe, sites: Sequence[str]) -> dict[str, str]:
    """For each site one of the recipe's clients, spread evenly over them.

    Raises:
        RecipeError: the recipe has fewer clients than there are sites, or names them by its data.
    """
    total = recipe.data.clients
    if recipe.data.partition.startswith("key("):
        raise RecipeError(
            "data.partition",
            f"{recipe.data.partition} names clients by the data, which sites do not share; "
            "take iid here, and give each site its own data in its site.toml",
        )
    if len(sites) > total:
        raise RecipeError("data.clients", f"{total}, but {len(sites)} sites; ask for more clients")
    ids = partition.names(None, recipe.data.partition, total)
    last = max(len(sites) - 1, 1)
    return {site: ids[i * (total - 1) // last] for i, site in enumerate(sites)}


def checked_host(host: str) -> str:
    """The host, if it can be one.

    Raises:
        FederationError: it cannot be a host name or an address.
    """
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise FederationError(
            f"--host {host!r} is no host name or address; give it without scheme and port"
        )
    return host
