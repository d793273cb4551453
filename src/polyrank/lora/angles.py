"""How two updates lie to each other: as vectors, and the spaces that they read from and write to.

cos = ⟨ΔW_1, ΔW_2⟩ / (‖ΔW_1‖·‖ΔW_2‖)
cos θ_j = σ_j(U_1ᵀU_2)      (principal angles between the spans of the rows, or of the columns)
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import subspace_angles
from torch import Tensor

from polyrank.lora.algebra import inner, norm
from polyrank.lora.factor import Factor


class Angles(NamedTuple):
    """Principal angles in degrees, rising; as many as the smaller rank.

    Args:
        rows: between the spaces that the updates read (of the layer's input).
        columns: between those that they write (of its output).
    """

    rows: tuple[float, ...]
    columns: tuple[float, ...]


def angles(f: Factor, g: Factor) -> Angles:
    """The principal angles between two updates.

    Args:
        f, g: without empty slots or slots that depend on others (as `recompress` gives them).
    """
    return Angles(_between(f.a.T, g.a.T), _between(f.b, g.b))


def cosine(f: Factor, g: Factor) -> float | None:
    """The cosine of the angle between two updates as vectors; None where one is zero."""
    size = float(norm(f)) * float(norm(g))
    return float(inner(f, g)) / size if size else None


def _between(one: Tensor, other: Tensor) -> tuple[float, ...]:
    if not one.shape[1] or not other.shape[1]:
        return ()
    # Columns of one length: singular values must not decide what counts as a direction.
    sides = [(t / t.norm(dim=0)).double().numpy() for t in (one, other)]
    return tuple(float(x) for x in np.rad2deg(subspace_angles(*sides))[::-1])
