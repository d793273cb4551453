"""One side of the factors at a time: what algorithms share that train or send A or B alone.

    x_g[j] = Σ_{i∈H_j} p_i x_i[j] / P_j        (x is A, or B with its scale folded in)

Where the other side is the same for everybody and all ranks are equal, this mean of one side is
the mean of the updates. A side A alone carries no scale.
"""

from collections.abc import Mapping
from typing import Literal

from polyrank.lora import slots
from polyrank.lora.algebra import half
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import fresh

Side = Literal["a", "b"]


def drawn(template: Factors, seed: int) -> dict[str, Factor]:
    """Random A and B = 0 for every layer, at the template's rank."""
    return {name: fresh(f, f.rank, seed, name) for name, f in template.items()}


def turn(round: int) -> tuple[Side, Side]:
    """(trained, frozen) in a round: B is trained in even rounds, the first is 0, A in odd ones."""
    return ("b", "a") if round % 2 == 0 else ("a", "b")


def like(factors: Factors, side: Side) -> dict[str, Factor]:
    """What one side's slots are summed as, by layer."""
    return {name: half(f, side) for name, f in factors.items()}


def averaged(before: Factors, sums: Mapping[str, slots.Slots], side: Side) -> dict[str, Factor]:
    """One side's slots as the means over their holders; the other side, and the rest, stay.

    Args:
        before: the factors so far, with scale 1.
        sums: of that side alone, by layer.
        side: which.
    """
    means = {n: slots.by_holders(s, half(before[n], side)) for n, s in sums.items()}
    if side == "a":
        return {**before, **{n: Factor(mean.a, before[n].b) for n, mean in means.items()}}
    return {**before, **{n: Factor(before[n].a, mean.b) for n, mean in means.items()}}
