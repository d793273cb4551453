"""A run's beginning: an adapter of any rank, whose update is added to the pretrained weights.

W0 ← W0 + s·B A      (the run's own adapter is the sum: of this update, and of what it learned)

A base below float32 would lose the update's small digits: there it stays beside the weights.

So every algorithm, at whatever ranks, begins exactly where the adapter ended, and clients train
fresh factors beside it, as they do beside pretrained weights. The modules that the adapter keeps
whole (a head) begin as they are there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyrank.client.adding import add, fitting, put
from polyrank.client.pretrained import base_name
from polyrank.errors import RankError, RecipeError, StorageError
from polyrank.lora.algebra import total
from polyrank.lora.factor import Adapter, Factor, Factors
from polyrank.lora.incoming import Incoming, read
from polyrank.lora.tensors import digest

KEY = "lora.init_from"


@dataclass(frozen=True, slots=True)
class Initial:
    """What a run begins with; nothing where it begins with the pretrained model.

    Args:
        adapter: in float32.
        facts: which it is, as JSON for the records.
    """

    adapter: Adapter = field(default_factory=lambda: Adapter({}))
    facts: Mapping[str, Any] = field(default_factory=dict)


def opened(path: Path, model: str) -> Incoming:
    """The adapter that a run may begin with.

    Args:
        path: its folder.
        model: the recipe's.

    Raises:
        RecipeError: it cannot be read, is of another base, or trains biases.
    """
    try:
        one = read(path)
    except StorageError as error:
        raise RecipeError(KEY, str(error)) from None
    if one.base is not None and not _same(one.base, base_name(model)):
        raise RecipeError(
            KEY, f"{path} adapts {one.base!r}, not {base_name(model)!r}; set model to that base"
        )
    if one.bias != "none":
        raise RecipeError(KEY, f"{path} trains biases ({one.bias}), with which no run can begin")
    return one


def adopt(net: Any, path: Path | None, model: str, absorbs: bool) -> Initial:
    """Add an adapter to a model that was just loaded.

    Args:
        net: the model.
        path: the adapter's folder; None changes nothing.
        model: the recipe's.
        absorbs: whether the update goes into the weights; else they stay, and it has to be held
            beside them.

    Raises:
        RecipeError: as for `opened`, or it does not fit the model.
    """
    if path is None:
        return Initial()
    one = opened(path, model)
    factors = {n: Factor(f.a.float(), f.b.float(), f.scale) for n, f in one.adapter.factors.items()}
    adapter = Adapter(factors, {n: t.float() for n, t in one.adapter.dense.items()})
    try:
        if absorbs:
            add(net, adapter)
        else:
            put(net, adapter.dense)
            for name, factor in factors.items():
                fitting(net, name, factor)
    except RankError as error:
        raise RecipeError(KEY, f"{path}: {error}") from None
    ranks = sorted({f.rank for f in factors.values()})
    return Initial(adapter, {"path": str(path), "sha256": digest(path), "ranks": ranks})


def both(initial: Initial, learned: Adapter) -> Adapter:
    """What an adapter of the original base must hold: the update begun with, and the one learned.

    Args:
        initial: what the run began with.
        learned: what it learned, and its head.
    """
    names = {**learned.factors, **initial.adapter.factors}
    factors = {n: _sum(initial.adapter.factors, learned.factors, n) for n in names}
    return Adapter(factors, {**initial.adapter.dense, **learned.dense})


def _sum(one: Factors, other: Factors, name: str) -> Factor:
    return total([some[name] for some in (one, other) if name in some])


def _same(one: str, other: str) -> bool:
    """Whether two names are of one model: the same words, or the same folder."""
    both = Path(one).expanduser(), Path(other).expanduser()
    return one == other or (all(p.is_dir() for p in both) and both[0].samefile(both[1]))
