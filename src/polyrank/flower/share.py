"""What a site trains on: a client's part of the recipe's own data, or a file of the site's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from polyrank.client.job import Share
from polyrank.client.memory import weights
from polyrank.client.model import Workbench
from polyrank.client.room import free
from polyrank.data import columns, files, partition
from polyrank.data.source import READERS
from polyrank.errors import DataError, nearest
from polyrank.experiment.setup import prepare, roster, tokenized, workbench
from polyrank.flower.site import Site, SiteError
from polyrank.recipe import Recipe


class Prepared(NamedTuple):
    """A node's model and data, loaded once.

    Args:
        recipe: for which.
        bench: the base model.
        client: the client's id.
        share: its examples.
        counts: how many examples it trains on by label.
    """

    recipe: Recipe
    bench: Workbench
    client: str
    share: Share
    counts: Mapping[str, int]


def prepared(recipe: Recipe, classes: Sequence[str], site: Site) -> Prepared:
    """Model and data of a site for this recipe.

    Args:
        recipe: the server's.
        classes: the server's class names, in the order of the logits.
        site: whose data.

    Raises:
        PolyrankError: whatever is wrong with the recipe, the data, the model or the site's config.
    """
    return _own(recipe, classes, site) if site.data else _part(recipe, site)


def labels(recipe: Recipe, site: Site) -> dict[str, int]:
    """How many examples a site's own file has of each label.

    Raises:
        DataError: the file cannot be read or used.
    """
    return dict(sorted(Counter(map(str, _columns(recipe, site).labels)).items()))


def available(bench: Workbench) -> int:
    """MiB for training: half of what is free, and what the model has already; 0 is unknown."""
    room = free(next(bench.net.parameters()).device)
    return 0 if room is None else (room // 2 + weights(bench)) >> 20


def _part(recipe: Recipe, site: Site) -> Prepared:
    setup = prepare(recipe)
    clients, idle = roster(recipe, setup)
    ids = [c.id for c in clients]
    if site.place is not None and site.place >= len(ids):
        problem = f"no client is left for place {site.place} of {len(ids)}"
        raise SiteError(f"{site.name}: {problem}; data.clients is how many nodes there can be")
    id = ids[site.place] if site.place is not None else str(site.client)
    if id not in ids:
        why = f"has {idle[id]}" if id in idle else f"is no client of the recipe; {nearest(id, ids)}"
        raise SiteError(f"node config of {site.name}: client {id!r} {why}")
    counts = dict(zip(setup.classes, setup.histogram(id), strict=True))
    return Prepared(recipe, setup.bench, id, setup.share(id), counts)


def _own(recipe: Recipe, classes: Sequence[str], site: Site) -> Prepared:
    found = _columns(recipe, site)
    index: dict[columns.Label, int] = {name: i for i, name in enumerate(classes)}
    named = columns.Columns(found.texts, [*map(str, found.labels)], None, found.places)
    examples = columns.encode(named, index, "the federation")
    bench = workbench(recipe, classes)
    kept, aside = partition.hold_out(
        range(len(examples)), recipe.data.validation, recipe.seed, "validation", site.name
    )
    share = Share(tokenized(recipe, bench, examples), kept, aside)
    counts = Counter(named.labels[i] for i in kept)
    return Prepared(recipe, bench, site.name, share, {name: counts[name] for name in classes})


def _columns(recipe: Recipe, site: Site) -> columns.Columns:
    """The rows of the site's file; its classes are named as in the federation."""
    assert site.data is not None
    reader, fields = READERS[recipe.task], site.fields or {}
    if strange := sorted(set(fields) - set(reader.parts)):
        raise SiteError(
            f"node config of {site.name}: fields: {strange[0]!r} is no part of an example of "
            f"{recipe.task}; valid: {', '.join(reader.parts)}"
        )
    train, _ = files.find(site.data, None)
    found = reader.own(files.read(train), recipe.data, fields)
    if not found.texts:
        raise DataError(f"{site.data}: no examples to train on")
    return found
