"""How much each adapter counts: by its training examples, all alike, or as the user says."""

import math
from collections.abc import Sequence

from polyrank.errors import AdapterError
from polyrank.lora.incoming import FACTS, Incoming


def weights(how: str, adapters: Sequence[Incoming], examples: str | None = None) -> list[float]:
    """One weight above 0 for each adapter, which together are 1.

    Args:
        how: "data", "uniform", or numbers separated by commas.
        adapters: whose.
        examples: for "data", the number of training examples of each, separated by commas; by
            default what is written beside each adapter.

    Raises:
        AdapterError: not one positive number for each, or no number of examples.
    """
    if examples is not None and how != "data":
        raise AdapterError(f"--examples belongs to --weights data, not to {how!r}")
    if how == "uniform":
        found = [1.0] * len(adapters)
    elif how == "data":
        found = _examples(adapters, examples)
    else:
        found = numbers("--weights", how, len(adapters), "data, uniform or ")
    return [w / math.fsum(found) for w in found]


def numbers(option: str, text: str, count: int, others: str = "") -> list[float]:
    """`count` positive numbers, separated by commas.

    Raises:
        AdapterError: they are not.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise AdapterError(
            f"{option} {text!r}: must be {others}one number for each adapter, such as 0.2,0.8"
        ) from None
    if len(found) != count:
        raise AdapterError(f"{option} {text!r}: {len(found)} numbers for {count} adapters")
    if bad := [x for x in found if not 0 < x < math.inf]:
        raise AdapterError(
            f"{option} {text!r}: {bad[0]:g} is not above 0; leave out an adapter that shall not "
            "count"
        )
    return found


def known_examples(adapter: Incoming) -> float | None:
    """The number of examples it was trained on, as it was written beside it."""
    found = adapter.facts.get("examples")
    good = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < math.inf
    return float(found) if good else None  # type: ignore[arg-type]


def _examples(adapters: Sequence[Incoming], given: str | None) -> list[float]:
    if given is not None:
        return numbers("--examples", given, len(adapters))
    found = []
    for adapter in adapters:
        count = known_examples(adapter)
        if count is None:
            raise AdapterError(
                f"{adapter.path}: {FACTS} does not say how many examples it was trained on; give "
                "them all with --examples 1200,300,…, or --weights uniform"
            )
        found.append(count)
    return found
