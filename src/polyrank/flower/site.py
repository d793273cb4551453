"""A site: what its node config says. Standard library only: each message starts a new process."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyrank.errors import PolyrankError

# Parts of a row, as a recipe calls them (recipe/values.py, whose import takes seconds).
FIELDS = {"text", "label", "instruction", "input", "response", "messages", "prompt"}
KEYS = {"site", "home", "client", "data", "fields", "rank", "memory", "keep"}
SIMULATED = {"partition-id", "num-partitions"}  # what Flower's simulation engine sets
AUTO = "auto"  # the rank of who leaves it to the server


class SiteError(PolyrankError, ValueError):
    """A node config that cannot be used."""


@dataclass(frozen=True, slots=True)
class Site:
    """One node, as its operator set it up.

    Args:
        name: what it is called.
        home: the folder for its private state, its trainer's socket and log.
        client: the client of the recipe's own partition that it is.
        place: the same by its place in that partition, under Flower's simulation engine.
        data: a file of its own examples instead.
        fields: columns of that file, where they are not the recipe's.
        rank: that it trains; None leaves it to the server, by the recipe.
        memory: MiB that it has for training, which the server's answer may depend on; None is
            what is free.
        keep: how many other runs' private states stay, those used last.
    """

    name: str
    home: Path
    client: str | None = None
    place: int | None = None
    data: Path | None = None
    fields: Mapping[str, str] | None = None
    rank: int | None = None
    memory: int | None = None
    keep: int = 10


def site(config: Mapping[str, Any]) -> Site:
    """The site that a node config describes.

    Raises:
        SiteError: a key that is missing, unknown or cannot be.
    """
    unknown = sorted(set(config) - KEYS - SIMULATED)
    if unknown:
        raise SiteError(
            f"node config: unknown key {unknown[0]!r}; valid: {', '.join(sorted(KEYS))}"
        )
    place = config.get("partition-id")
    name = str(config.get("site", "" if place is None else f"partition-{place}"))
    if not name or "/" in name or name.startswith("."):
        raise SiteError(f'node config: site is {name!r}; give a name, such as site="hospital-a"')
    given = [key for key in ("client", "data") if key in config]
    if len(given) != 1 and (given or place is None):
        raise SiteError(f"node config of {name}: give one of client and data")
    rank = None if config.get("rank") == AUTO else _number(name, config, "rank", 1)
    return Site(
        name,
        _absolute(name, "home", config.get("home", f"~/.polyrank/nodes/{name}")),
        None if "client" not in config else str(config["client"]),
        None if given else int(str(place)),
        None if "data" not in config else _absolute(name, "data", config["data"]),
        _fields(name, config.get("fields")),
        rank,
        _number(name, config, "memory", 1),
        _number(name, config, "keep", 0, 10) or 0,
    )


def told(site: Site) -> dict[str, Any]:
    """The site as JSON."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(site).items()}


def read(told: Mapping[str, Any]) -> Site:
    """The site that `told` made JSON of."""
    paths = {k: Path(told[k]) for k in ("home", "data") if told[k] is not None}
    return Site(**{**told, **paths})


def _number(
    name: str, config: Mapping[str, Any], key: str, least: int, default: int | None = None
) -> int | None:
    value = config.get(key, default)
    if value is not None and (
        not isinstance(value, int) or isinstance(value, bool) or value < least
    ):
        either = f", or {AUTO!r}" if key == "rank" else ""
        raise SiteError(
            f"node config of {name}: {key} is {value!r}; give a whole number from {least}{either}"
        )
    return value


def _absolute(name: str, key: str, value: Any) -> Path:
    path = Path(str(value)).expanduser()
    if not path.is_absolute():
        raise SiteError(f"node config of {name}: {key} is {str(value)!r}; give an absolute path")
    return path


def _fields(name: str, value: Any) -> dict[str, str] | None:
    """`text=question label=topic` as a mapping."""
    if value is None:
        return None
    pairs = [part.partition("=") for part in str(value).split()]
    if not pairs or not all(k in FIELDS and column for k, _, column in pairs):
        raise SiteError(
            f'node config of {name}: fields is {value!r}; give columns as "text=question '
            'label=topic"'
        )
    return {k: column for k, _, column in pairs}
