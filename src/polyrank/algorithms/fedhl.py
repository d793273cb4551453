"""FedHL: keep the update at full rank, and add each client's change since its truncated start.

    T_i = T_{r_i}(ΔW_t)        ΔW_{t+1} = ΔW_t + Σ_i p_i (ΔW_i − T_i)        E_i = ‖ΔW_t − T_i‖²

T_r is the best rank-r approximation of ΔW (never of W0 + ΔW). Where no client changes anything the
state does not move, for any weights p: the server is unbiased. The weights come from E_i, summed
over layers, each relative to ‖ΔW‖² of its layer so that no layer decides alone; see weights.py.

Peng et al., FedHL: Federated Learning for Heterogeneous Low-Rank Adaptation via Unbiased
Aggregation, https://arxiv.org/abs/2505.18494
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from polyrank.algorithm import About, Algorithm, Info
from polyrank.lora.algebra import recompress, stack, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import share
from polyrank.lora.sums import Sum, add_all, mean, nothing
from polyrank.messages import Client, Download, Upload
from polyrank.weights import WEIGHTINGS, Weigh, Weighting, drift, effective_number

Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]

ABOUT = About(
    paper="Peng et al., 2025, arXiv 2505.18494",
    up="r_i(m+n)", down="r_i(m+n)", server="ΔW at full rank", mixed=True, exact=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    delta: Factors  # ΔW, slots by falling singular value: truncating is slicing
    seed: int


def build(
    weights: Weighting = "regularised",
    kappa: Strength = 1.0,
    tau: Strength = 1.0,
    c: Strength = 1.0,
    per_layer: bool = False,
) -> Algorithm:
    """`weights` is data, fedhl (with kappa), regularised (with tau) or coherent (with c)."""
    extra = {"fedhl": {"kappa": kappa}, "regularised": {"tau": tau}, "coherent": {"c": c}}
    weigh: Weigh = partial(WEIGHTINGS[weights], **extra.get(weights, {}))
    within = (lambda examples: 1.0) if weights == "fedhl" else float

    def init(template: Factors, seed: int) -> State:
        return State({n: Factor(f.a[:0], f.b[:, :0]) for n, f in template.items()}, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.delta, client.rank, state.seed))

    def aggregate(state: State, uploads: Iterable[Upload]) -> tuple[State, Info]:
        groups = _collect(uploads, within)
        if not groups:
            return state, {}
        layers = list(state.delta)
        errors = {n: [tail(state.delta[n], g.ranks.get(n)) for g in groups] for n in layers}
        overall = [sum(column) for column in zip(*errors.values(), strict=True)]
        clients, weights = _weigh(weigh, groups, overall)
        masses = {n: _weigh(weigh, groups, errors[n])[1] if per_layer else weights for n in layers}
        delta = {n: _moved(n, f, groups, masses[n]) for n, f in state.delta.items()}
        return replace(state, delta=delta), _info(clients, weights, groups, overall)

    def read(state: State) -> Factors:
        return state.delta

    return Algorithm(init, send, aggregate, read)


@dataclass(frozen=True, slots=True)
class Group:
    """Clients of the same rank on every layer: same start, same E, one sum."""

    ranks: dict[str, int]
    sums: dict[str, Sum]
    examples: dict[str, int]  # by client id


def _collect(uploads: Iterable[Upload], within: Callable[[int], float]) -> list[Group]:
    groups: dict[tuple[tuple[str, int], ...], Group] = {}
    for upload in uploads:
        ranks = {name: f.rank for name, f in sorted(upload.factors.items())}
        new = Group(ranks, dict.fromkeys(ranks, nothing()), {})
        group = groups.setdefault(tuple(ranks.items()), new)
        add_all(group.sums, upload.factors, within(upload.examples))
        group.examples[upload.client.id] = upload.examples
    return list(groups.values())


def tail(delta: Factor, rank: int | None) -> float:
    """E/‖ΔW‖² of a start of this rank, in float64; 0 where the client does not adapt the layer."""
    energy = delta.b.double().square().sum(dim=0)
    total = float(energy.sum())
    return float(energy[rank:].sum()) / total if total > 0 and rank is not None else 0.0


def _weigh(
    weigh: Weigh, groups: list[Group], errors: list[float]
) -> tuple[dict[str, float], list[float]]:
    """The weight of every client, and of every group."""
    everyone = [
        (id, n, e) for g, e in zip(groups, errors, strict=True) for id, n in g.examples.items()
    ]
    total = sum(n for _, n, _ in everyone)
    p = weigh([n / total for _, n, _ in everyone], [e for _, _, e in everyone])
    clients = dict(zip([id for id, _, _ in everyone], p, strict=True))
    return clients, [sum(clients[id] for id in g.examples) for g in groups]


def _moved(name: str, delta: Factor, groups: list[Group], masses: list[float]) -> Factor:
    """ΔW + Σ_g P_g (mean_g ΔW_i − T_g), P over the groups that adapt this layer."""
    here = [(g, mass) for g, mass in zip(groups, masses, strict=True) if name in g.sums]
    if not here:
        return delta
    total = sum(mass for _, mass in here)
    terms = [(delta, 1.0)]
    for group, mass in here:
        terms.append((mean(group.sums[name]), mass / total))
        terms.append((truncate(delta, group.ranks[name]), -mass / total))
    return recompress(stack([f for f, _ in terms], [w for _, w in terms]))


def _info(
    clients: dict[str, float], masses: list[float], groups: list[Group], errors: list[float]
) -> Info:
    n_eff = effective_number(list(clients.values()))
    truncation = {i: e for g, e in zip(groups, errors, strict=True) for i in g.examples}
    info: dict[str, Any] = {
        "weights": clients,
        "truncation": truncation,
        "n_eff": n_eff,
        "bound": sum(p**2 * truncation[i] for i, p in clients.items()),  # Σ p_i² E_i
        "drift": drift(masses, errors),
    }
    if n_eff < len(clients) / 4:
        few = f"the weights amount to {n_eff:.1f} of {len(clients)} clients"
        info["warning"] = f"{few}; weights=regularised is steadier"
    return info
