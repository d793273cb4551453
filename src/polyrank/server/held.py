"""What clients hold before they train, as the server knows it, and how far it is from the state.

E_i = Σ_layers ‖ΔW_t − M_i‖² / ‖ΔW_t‖²        M_i: what client i holds, its folds included
drift = ‖Σ_i p_i (M_i − ΔW_t)‖                 (each layer relative to ‖ΔW_t‖)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from polyrank.algorithm import Algorithm, Held, State
from polyrank.client.start import begin
from polyrank.lora.algebra import identical, inner, stack
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client

Energies = Mapping[str, float]
FLOOR = 1e-5  # relative errors below this are rounding, not truncation


def held(algorithm: Algorithm, state: State, client: Client, template: Factors) -> Held:
    """What the client starts from: the folds and factors that it would be sent if it had none.

    Args:
        algorithm: whose state it is.
        state: before the round.
        client: at its rank.
        template: one factor per layer, for shapes and dtype.
    """
    if algorithm.held is not None:
        return algorithm.held(state, client)
    sent = algorithm.send(state, replace(client, seen=0))
    start = begin(sent, client, template)
    start |= {n: Factor(core @ start[n].a, start[n].b, start[n].scale)
              for n, core in sent.core.items()}  # fmt: skip
    return {n: (*([sent.fold[n]] if n in sent.fold else []), f) for n, f in start.items()}


def models(
    algorithm: Algorithm, state: State, clients: Iterable[Client], template: Factors
) -> dict[str, Held]:
    """What each client starts from, by its id; those of one rank that start alike share one."""
    found, last = dict[str, Held](), dict[int, Held]()
    for client in clients:
        model, other = held(algorithm, state, client, template), last.get(client.rank)
        last[client.rank] = model if other is None or not _alike(model, other) else other
        found[client.id] = last[client.rank]
    return found


def errors(model: Held, state: Factors, energies: Energies) -> dict[str, float]:
    """E by layer: the share of the update's energy that a client does not hold.

    Args:
        model: what it holds.
        state: what the server holds.
        energies: ‖ΔW_t‖² by layer.
    """
    return {n: _apart([(1.0, f) for f in model[n]], f, energies[n]) for n, f in state.items()}


def drift(models: Sequence[Held], p: Sequence[float], state: Factors, energies: Energies) -> float:
    """How far the weighted mean of what clients hold is from what the server holds."""
    total = sum(p)
    squares = 0.0
    for name, f in state.items():
        terms = [(w / total, g) for model, w in zip(models, p, strict=True) for g in model[name]]
        squares += _apart(_merged(terms), f, energies[name])
    return squares**0.5


def _apart(terms: Sequence[tuple[float, Factor]], whole: Factor, size: float) -> float:
    """‖Σ w·term − whole‖² / ‖whole‖²; a term that equals `whole` cancels exactly."""
    if size <= 0:
        return 0.0
    equal = [identical(f, whole) for _, f in terms]
    # Of `whole` that is left over:
    share = 1.0 - sum(w for (w, _), same in zip(terms, equal, strict=True) if same)
    others = [(w, f) for (w, f), same in zip(terms, equal, strict=True) if not same and f.b.any()]
    square = share**2 * size
    if others:
        mean = stack([f for _, f in others], [w for w, _ in others])
        if mean.rank > min(mean.shape):
            square = float((mean.delta - share * whole.delta).square().sum())
        else:
            square += float(inner(mean, mean)) - 2 * share * float(inner(whole, mean))
    return square / size if square > FLOOR * size else 0.0


def _merged(terms: Sequence[tuple[float, Factor]]) -> list[tuple[float, Factor]]:
    """Equal factors once, with the sum of their weights: clients of one rank often start alike."""
    merged: list[tuple[float, Factor]] = []
    for weight, f in terms:
        for i, (w, g) in enumerate(merged):
            if identical(f, g):
                merged[i] = (w + weight, g)
                break
        else:
            merged.append((weight, f))
    return merged


def _alike(one: Held, other: Held) -> bool:
    if {n: len(terms) for n, terms in one.items()} != {n: len(t) for n, t in other.items()}:
        return False
    return all(identical(f, g) for n in one for f, g in zip(one[n], other[n], strict=True))
