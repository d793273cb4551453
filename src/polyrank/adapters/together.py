"""Whether adapters can become one: the same base and task, layers and heads of the same shapes."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from polyrank.errors import AdapterError
from polyrank.lora.incoming import Incoming
from polyrank.lora.peft import Told


class Together(NamedTuple):
    """What several adapters have in common.

    Args:
        told: what their one configuration says.
        layers: every layer that any of them adapts.
        notes: what a user should know of them, a line each.
    """

    told: Told
    layers: tuple[str, ...]
    notes: tuple[str, ...]


def together(adapters: Sequence[Incoming], base: str | None = None) -> Together:
    """What these adapters have in common.

    Args:
        adapters: one or more.
        base: the base of them all, whatever each calls it.

    Raises:
        AdapterError: two of them do not go together.
    """
    named = base or _one(adapters, "base", lambda a: a.base, "give --base if they are the same")
    task = _one(adapters, "task_type", lambda a: a.task, "aggregate those of one task")
    _check_shapes(adapters)
    modules = sorted({module for a in adapters for module in a.modules})
    biases = {a.bias for a in adapters} - {"none"}
    bias = "all" if "all" in biases else next(iter(biases), "none")
    transposed = any(a.transposed for a in adapters)
    told = Told(named, task, transposed, tuple(modules) or None, bias)
    layers = sorted({name for a in adapters for name in a.adapter.factors})
    return Together(told, tuple(layers), tuple(_notes(adapters, layers)))


def _one(
    adapters: Sequence[Incoming], what: str, of: Callable[[Incoming], str | None], remedy: str
) -> str | None:
    """What all that say anything say."""
    said = [a for a in adapters if of(a) is not None]
    for other in said[1:]:
        if of(other) != of(said[0]):
            raise AdapterError(
                f"{said[0].path} has {what} {of(said[0])!r}, but {other.path} has {of(other)!r}; "
                f"{remedy}"
            )
    return of(said[0]) if said else None


def _check_shapes(adapters: Sequence[Incoming]) -> None:
    first: dict[str, tuple[Incoming, tuple[int, ...]]] = {}
    for a in adapters:
        found = {n: tuple(f.shape) for n, f in a.adapter.factors.items()}
        found |= {n: tuple(t.shape) for n, t in a.adapter.dense.items()}
        for name, shape in found.items():
            before, known = first.setdefault(name, (a, shape))
            if known != shape:
                raise AdapterError(
                    f"{name!r} has shape {known} in {before.path}, but {shape} in {a.path}: "
                    "they are of different bases, or of heads for different classes"
                )


def _notes(adapters: Sequence[Incoming], layers: Sequence[str]) -> list[str]:
    dense = sorted({name for a in adapters for name in a.adapter.dense})
    found = [
        *_partly("layers", layers, [a.adapter.factors for a in adapters]),
        *_partly("tensors kept whole", dense, [a.adapter.dense for a in adapters]),
    ]
    silent = [str(a.path) for a in adapters if a.base is None]
    if silent and len(silent) < len(adapters):
        found.append(f"no base is named by {', '.join(silent)}: taken to be that of the others")
    return found


def _partly(what: str, names: Sequence[str], held: Sequence[Mapping[str, object]]) -> list[str]:
    """What only some of them have: a line for each number of holders."""
    by_count: dict[int, list[str]] = {}
    for name in names:
        by_count.setdefault(sum(name in own for own in held), []).append(name)
    return [
        f"{len(some)} of {len(names)} {what} are in {count} of {len(held)} adapters "
        f"({some[0]}{', …' if len(some) > 1 else ''}): aggregated over those"
        for count, some in sorted(by_count.items())
        if count < len(held)
    ]
