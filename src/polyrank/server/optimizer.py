"""A server optimizer: the round's change as a pseudo-gradient, on factors or on ΔW (FedOpt).

    g = after − before
    momentum:  m ← β₁m + g                                x ← before + η·m
    adam:      m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²      x ← before + η·m/(√v + ε)

An algorithm whose state has a field `factors` is stepped slot by slot (x is A and B), one with
`delta` as a dense product (x is ΔW). Tensors trained whole are stepped alike.

Reddi et al., Adaptive Federated Optimization, ICLR 2021, https://arxiv.org/abs/2003.00295;
momentum: Hsu et al., https://arxiv.org/abs/1909.06335
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from polyrank.algorithm import State
from polyrank.lora.factor import Dense, Factor
from polyrank.lora.spectral import factored
from polyrank.recipe.schema import Aggregation


@dataclass(frozen=True, slots=True)
class Moments:
    """Running means of the pseudo-gradient and of its square, by tensor name."""

    first: Dense = field(default_factory=dict)
    second: Dense = field(default_factory=dict)


def can_step(state: State) -> bool:
    """Whether there is something in the state that may be moved from outside."""
    return hasattr(state, "factors") or hasattr(state, "delta")


def step(
    how: Aggregation, before: tuple[State, Dense], after: tuple[State, Dense], moments: Moments
) -> tuple[tuple[State, Dense], Moments]:
    """Move on from `before` by the optimizer's step instead of to `after`.

    Args:
        how: the optimizer, its learning rate and its decay rates.
        before: the algorithm's state and the dense tensors before the round.
        after: the same as the round left them.
        moments: what the rounds before left.

    Returns:
        The state and the dense tensors to go on from, and the moments.
    """
    if how.optimizer == "none":
        return after, moments
    old, new = _tensors(*before), _tensors(*after)
    gradients = {n: x - old[n] for n, x in new.items()}
    first, second = dict(moments.first), dict(moments.second)
    moved = {}
    for n, g in gradients.items():
        share = 1.0 if how.optimizer == "momentum" else 1 - how.momentum
        first[n] = how.momentum * first.get(n, 0 * g) + share * g
        direction = first[n]
        if how.optimizer == "adam":
            second[n] = how.beta2 * second.get(n, 0 * g) + (1 - how.beta2) * g.square()
            direction = first[n] / (second[n].sqrt() + how.eps)
        moved[n] = old[n] + how.lr * direction
    return _with(after, moved), Moments(first, second)


def _tensors(state: State, dense: Dense) -> dict[str, Tensor]:
    tensors = {f"dense/{n}": t for n, t in dense.items()}
    for n, f in getattr(state, "factors", {}).items():
        tensors |= {f"a/{n}": f.a, f"b/{n}": f.b}
    for n, f in getattr(state, "delta", {}).items():
        tensors[f"delta/{n}"] = f.delta
    return tensors


def _with(after: tuple[State, Dense], moved: Mapping[str, Tensor]) -> tuple[State, Dense]:
    state, dense = after
    if hasattr(state, "factors"):
        new = {n: Factor(moved[f"a/{n}"], moved[f"b/{n}"]) for n in state.factors}
        state = replace(state, factors=new)
    else:
        state = replace(state, delta={n: factored(moved[f"delta/{n}"]) for n in state.delta})
    return state, {n: moved[f"dense/{n}"] for n in dense}
