"""Aggregation weights: how much each client's change counts, from its data and its truncation.

    data          p = q                                     q_i = n_i / Σ n
    uniform       p_i = 1/K
    norm          p_i ∝ ‖s_i B_i A_i‖                        (Frobenius, all layers together)
    fedhl         p_i ∝ 1 / (E_i + ε)^κ                     ε = 10⁻³ · max E
    regularised   p_i ∝ q_i / (1 + τ·E_i/Ē)                 Ē = Σ q_i E_i
    coherent      argmin_p  pᵀMp/Ē + c·χ²(p‖q)              M_ik = min(E_i, E_k)

E_i is the squared error of the truncation that client i starts from. `fedhl` minimises the drift
Σ p_i²E_i of FedHL's bound (κ=1; κ=2 is the paper's Eq. 15 read literally). `regularised` minimises
Σ (p_i²/q_i)·τE_i/Ē + χ²(p‖q): it equals q where all E are equal and tends to q_i/E_i as τ → ∞.
`coherent` takes in that residuals of nested truncations overlap, ⟨R_i, R_k⟩ = min(E_i, E_k).

Peng et al., FedHL, https://arxiv.org/abs/2505.18494 (the last two are this project's); norm:
Cho et al., https://arxiv.org/abs/2401.06432.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from polyrank.lora.algebra import norm
from polyrank.lora.factor import Factor, Factors
from polyrank.recipe.values import WEIGHTS

Weigh = Callable[[Sequence[float], Sequence[float]], list[float]]  # q, E -> p


def fedhl(q: Sequence[float], errors: Sequence[float], *, kappa: float = 1.0) -> list[float]:
    """p_i ∝ 1/(E_i + ε)^κ; all equal where no client's start is truncated."""
    e = np.asarray(errors, float)
    if e.max() <= 0:
        return _normalised(np.ones_like(e))
    relative = e / e.max() + 1e-3
    return _normalised(relative**-kappa)


def regularised(q: Sequence[float], errors: Sequence[float], *, tau: float = 1.0) -> list[float]:
    """p_i ∝ q_i / (1 + τ·E_i/Ē); p = q where no client's start is truncated."""
    share, e = np.asarray(q, float), np.asarray(errors, float)
    mean = share @ e / share.sum()
    return _normalised(share / (1 + tau * e / mean) if mean > 0 else share)


def coherent(q: Sequence[float], errors: Sequence[float], *, c: float = 1.0) -> list[float]:
    """argmin over the simplex of pᵀMp/Ē + c·χ²(p‖q), M_ik = min(E_i, E_k).

    (Mp)_i depends on E_i alone, so p_i/q_i is the same for all clients of one error and the
    problem has as many unknowns as there are distinct errors.
    """
    share, e = np.asarray(_normalised(np.asarray(q, float))), np.asarray(errors, float)
    mean = share @ e
    if mean <= 0:
        return [float(x) for x in share]
    level, group = np.unique(e, return_inverse=True)
    weight = np.bincount(group, weights=share)
    overlap = np.minimum.outer(level, level) / mean * np.outer(weight, weight)
    ratio = _smallest(overlap, weight, c)
    return _normalised(share * ratio[group])


_FROM_ERRORS: dict[str, Callable[..., list[float]]] = {
    "fedhl": fedhl,
    "regularised": regularised,
    "coherent": coherent,
}


def rule(text: str) -> Weigh | None:
    """The function for a recipe's words, such as `regularised(0.5)`; 1 where no number is given.

    None for data, uniform and norm, which do not follow from E.
    """
    name, _, number = text.rstrip(")").partition("(")
    if name not in _FROM_ERRORS:
        return None
    return partial(_FROM_ERRORS[name], **{WEIGHTS[name]: float(number or 1)})


def size(factors: Factors) -> float:
    """‖·‖ of an upload over all layers (Frobenius); of the side that travels, where one does."""
    return sum(map(square, factors.values())) ** 0.5


def square(f: Factor) -> float:
    """‖·‖² of a layer's update (Frobenius); of the side that travels, where one does."""
    sides = [t for t in (f.a, f.scale * f.b) if t.numel()]
    return float(norm(f)) ** 2 if len(sides) == 2 else sum(float(t.square().sum()) for t in sides)


def effective_number(p: Sequence[float]) -> float:
    """N_eff = 1/Σ p_i²: how many equally weighted clients the weights amount to."""
    return 1.0 / float(np.square(p).sum())


def _smallest(overlap: np.ndarray, weight: np.ndarray, c: float) -> np.ndarray:
    """argmin_g gᵀ·overlap·g + c·Σ weight·(g−1)², with g ≥ 0 and Σ weight·g = 1 (convex)."""
    from scipy.optimize import minimize  # takes a second, and few runs need it

    def value(g: np.ndarray) -> float:
        return float(g @ overlap @ g + c * weight @ np.square(g - 1))

    def slope(g: np.ndarray) -> np.ndarray:
        return 2 * overlap @ g + 2 * c * weight * (g - 1)

    found = minimize(
        value, np.ones_like(weight), jac=slope, method="SLSQP", bounds=[(0, None)] * len(weight),
        constraints={"type": "eq", "fun": lambda g: weight @ g - 1, "jac": lambda g: weight},
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return np.asarray(found.x).clip(min=0)


def _normalised(weights: np.ndarray) -> list[float]:
    return [float(x) for x in weights / weights.sum()]
