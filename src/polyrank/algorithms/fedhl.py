"""FedHL: keep the update at full rank, and add each client's change since its truncated start.

    T_i = T_{r_i}(ΔW_t)        ΔW_{t+1} = ΔW_t + Σ_i p_i (ΔW_i − T_i)

T_r is the best rank-r approximation of ΔW (never of W0 + ΔW). Where no client changes anything the
state does not move, for any weights p: the server is unbiased. The paper's weights follow from
the truncation errors E_i = ‖ΔW_t − T_i‖² (weights.py): `regularised` by default, and `fedhl(1)`
or `fedhl(2)` as published.

Peng et al., FedHL: Federated Learning for Heterogeneous Low-Rank Adaptation via Unbiased
Aggregation, https://arxiv.org/abs/2505.18494
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import sums
from polyrank.lora.algebra import scaled, total, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.headed import headed, parts
from polyrank.lora.parallel import each
from polyrank.lora.start import share
from polyrank.lora.sums import Sum
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Peng et al., 2025, arXiv 2505.18494",
    up="r_i(m+n)", down="r_i(m+n)", server="ΔW at full rank", mixed=True, exact=True,
    weights="regularised",
    rounds="it adds what clients change since the round before; from nothing that is flora's sum",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    delta: Factors  # ΔW; the leading R slots by falling singular value: truncating is slicing
    rank: int  # R
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        rank = max((f.rank for f in template.values()), default=0)
        return State({n: Factor(f.a[:0], f.b[:, :0]) for n, f in template.items()}, rank, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.delta, client.rank, state.seed))

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        new = {}
        for name, f in upload.factors.items():
            before, weight = partial.get(name, {}), upload.counts(name)
            starts = before.get("starts", {})
            new[name] = {
                "ends": sums.add(before.get("ends", sums.nothing()), f, weight),
                "starts": {**starts, f.rank: starts.get(f.rank, 0.0) + weight},
            }
        return {**partial, **new}

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = [n for n, p in partial.items() if p["ends"].total > 0]
        moved = each(heard, lambda n: _moved(state.delta[n], state.rank, **partial[n]))
        return replace(state, delta={**state.delta, **moved}), {}

    def read(state: State) -> Factors:
        return state.delta

    return Algorithm(init, send, add, update, read)


def _moved(delta: Factor, rank: int, ends: Sum, starts: Mapping[int, float]) -> Factor:
    """ΔW + Σ_i p_i ΔW_i − Σ_r P_r T_r(ΔW), P_r the weight of the clients of rank r."""
    terms = [(f, 1.0) for f in parts(delta, rank)]
    terms += [(f, 1 / ends.total) for f in ends.parts]
    terms += [(truncate(delta, r), -mass / ends.total) for r, mass in starts.items()]
    return headed(total([scaled(f, w) for f, w in terms]), rank)
