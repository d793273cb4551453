"""`polyrank aggregate`, whole: read, check, weigh, aggregate, cut, write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from polyrank.adapters import card, cutting
from polyrank.adapters.aggregate import Choice, aggregated
from polyrank.adapters.opened import narrow, opened
from polyrank.adapters.together import together
from polyrank.adapters.weights import known_examples, numbers, weights
from polyrank.adapters.writing import claim, write_adapter
from polyrank.errors import AdapterError
from polyrank.lora.factor import Factors
from polyrank.lora.incoming import Incoming
from polyrank.report.words import percent, ranges


class Asked(NamedTuple):
    """What the user asks for; each as of the option of its name."""

    adapters: tuple[Path, ...]
    out: Path
    algorithm: str = "flexlora"
    weights: str = "data"
    examples: str | None = None
    rank: int | None = None
    options: tuple[str, ...] = ()
    base: str | None = None
    overwrite: bool = False


def combine(asked: Asked) -> list[str]:
    """Write one adapter made of several; what to tell the user, a line each.

    Raises:
        PolyrankError: an adapter cannot be read, they do not go together, or the result is
            nothing that can be written.
    """
    claim(asked.out, asked.overwrite, asked.adapters)
    choice = Choice(asked.algorithm, _options(asked.options))
    adapters = [opened(path) for path in asked.adapters]
    common = together(adapters, asked.base)
    shares = weights(asked.weights, adapters, asked.examples)
    factors, dense = aggregated(adapters, shares, choice, common)
    factors, cut = _at(factors, asked.rank)
    mean, _ = aggregated(adapters, shares, Choice("flora"), common)
    notes = [*common.notes, *cut, _off(cutting.apart(factors, mean))]
    rows = _rows(asked, adapters, shares)
    result = narrow(cutting.filled(factors), dense.items())
    made = {
        "command": "aggregate", "algorithm": asked.algorithm, "options": dict(choice.options),
        "adapters": rows, "examples": _total(rows),
    }  # fmt: skip
    parts = [*card.of_adapters(asked.algorithm, rows), card.of_factors(result.factors)]
    text = card.card(
        asked.out.name, common.told.base, [*parts, "\n".join(f"- {line}" for line in notes)]
    )
    write_adapter(asked.out, result, common.told, made, text)
    return [*(_row(row) for row in rows), *notes, _told(asked, result.factors)]


def _options(given: Sequence[str]) -> dict[str, Any]:
    """key=value of an algorithm, the value as YAML."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals or not key:
            raise AdapterError(f"--option {text!r} is not key=value, such as tau=0.95")
    return found


def _at(factors: Factors, rank: int | None) -> tuple[Factors, list[str]]:
    """The update at the rank that is asked for, and what that keeps."""
    if rank is None:
        return factors, []
    update = cutting.ordered(factors)
    return cutting.at_rank(update, rank), [cutting.told(update, rank)]


def _rows(
    asked: Asked, adapters: Sequence[Incoming], shares: Sequence[float]
) -> list[dict[str, Any]]:
    """What each adapter is, and how much it counts."""
    known: Sequence[float | None] = [known_examples(one) for one in adapters]
    if asked.examples is not None:
        known = numbers("--examples", asked.examples, len(adapters))
    return [
        {
            "adapter": str(path),
            "ranks": sorted({f.rank for f in one.adapter.factors.values()}),
            "examples": count,
            "weight": share,
        }
        for path, one, count, share in zip(asked.adapters, adapters, known, shares, strict=True)
    ]


def _total(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The examples of all, if those of each are known."""
    counts = [row["examples"] for row in rows]
    return None if None in counts else sum(counts)


def _row(row: Mapping[str, Any]) -> str:
    return f"{row['adapter']}: rank {ranges(row['ranks'])}, weight {row['weight']:.4g}"


def _off(distance: float) -> str:
    """How far the result is from the weighted mean of the updates themselves."""
    how = ", exactly" if distance < 1e-9 else f" but for {percent(distance)}"
    return f"the weighted mean of the updates{how}"


def _told(asked: Asked, factors: Factors) -> str:
    ranks = ranges(f.rank for f in factors.values())
    return f"{asked.algorithm}: {len(factors)} layers of rank {ranks} in {asked.out}"
