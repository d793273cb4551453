"""The mean of changes that were trained in different row spaces: a direction by those who train it.

    U = argmin Σ_i p_i (‖(C_i − U) Π_i‖² + ω ‖(C_i − U)(I − Π_i)‖²)
      = (Σ_i p_i C_i N_i) N⁻¹,      N_i = Π_i + ω(I − Π_i),   N = Σ_i p_i N_i

Π_i projects on the rows of A that client i trains from, and ω is what it counts elsewhere: with
ω = 1 this is the plain mean, which dilutes a direction that few can train by all the others; for
ω → 0 it is the mean over those who can (replication's, in nested slots). If all changes are equal,
or all row spaces, it is their mean for any ω.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.lora.algebra import stack
from polyrank.lora.factor import Factor


class Covered(NamedTuple):
    """The change of clients that share a row space.

    Args:
        change: Σ p_i C_i of these clients.
        mass: Σ p_i of these clients; all masses together are 1.
        rows: what they train from; independent of each other.
    """

    change: Factor
    mass: float
    rows: Float[Tensor, "rank in"]


def mean(terms: Sequence[Covered], trust: float) -> Factor:
    """U, stacked: its rank is that of all changes together.

    Args:
        terms: one or more.
        trust: ω, above 0.
    """
    if trust == 1.0 or len(terms) == 1:
        return stack([t.change for t in terms])
    bases = [torch.linalg.qr(t.rows.mT).Q.mT for t in terms]
    weighed = [_weighed(t.change, q, trust) for t, q in zip(terms, bases, strict=True)]
    whole = stack(weighed)
    held = torch.cat([t.mass**0.5 * q for t, q in zip(terms, bases, strict=True)])
    _, roots, q = torch.linalg.svd(held, full_matrices=False)  # Σ P Π = qᵀ diag(roots²) q
    inside = 1 / (trust + (1 - trust) * roots.square())
    a = whole.a / trust + ((whole.a @ q.mT) * (inside - 1 / trust)) @ q
    return Factor(a, whole.b, whole.scale)


def _weighed(f: Factor, q: Float[Tensor, "rank in"], trust: float) -> Factor:
    """C (Π + ω(I − Π)), Π = qᵀq."""
    return Factor(trust * f.a + (1 - trust) * (f.a @ q.mT) @ q, f.b, f.scale)
