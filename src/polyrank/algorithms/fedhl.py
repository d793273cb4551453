"""FedHL: keep the update at full rank, and add each client's change since its truncated start.

    T_i = T_{r_i}(ΔW_t)        ΔW_{t+1} = ΔW_t + Σ_i p_i (ΔW_i − T_i)

T_r is the best rank-r approximation of ΔW (never of W0 + ΔW). Where no client changes anything the
state does not move, for any weights p: the server is unbiased. The paper's weights follow from
the truncation errors E_i = ‖ΔW_t − T_i‖² (weights.py): `regularised` by default, and `fedhl(1)`
or `fedhl(2)` as published.

Peng et al., FedHL: Federated Learning for Heterogeneous Low-Rank Adaptation via Unbiased
Aggregation, https://arxiv.org/abs/2505.18494
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info
from polyrank.lora.algebra import recompress, stack, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import share
from polyrank.lora.sums import Sum, add, nothing
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Peng et al., 2025, arXiv 2505.18494",
    up="r_i(m+n)", down="r_i(m+n)", server="ΔW at full rank", mixed=True, exact=True,
    weights="regularised",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    delta: Factors  # ΔW, slots by falling singular value: truncating is slicing
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State({n: Factor(f.a[:0], f.b[:, :0]) for n, f in template.items()}, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.delta, client.rank, state.seed))

    def aggregate(state: State, uploads: Iterable[Upload]) -> tuple[State, Info]:
        ends = {name: nothing() for name in state.delta}
        starts: dict[str, dict[int, float]] = {n: defaultdict(float) for n in state.delta}
        for upload in uploads:
            for name, f in upload.factors.items():
                weight = upload.counts(name)
                ends[name] = add(ends[name], f, weight)
                starts[name][f.rank] += weight
        moved = {n: _moved(f, ends[n], starts[n]) for n, f in state.delta.items()}
        return replace(state, delta=moved), {}

    def read(state: State) -> Factors:
        return state.delta

    return Algorithm(init, send, aggregate, read)


def _moved(delta: Factor, ends: Sum, starts: Mapping[int, float]) -> Factor:
    """ΔW + Σ_i p_i ΔW_i − Σ_r P_r T_r(ΔW), P_r the weight of the clients of rank r."""
    if not starts:
        return delta
    terms = [(delta, 1.0), *((f, 1 / ends.total) for f in ends.parts)]
    terms += [(truncate(delta, rank), -mass / ends.total) for rank, mass in starts.items()]
    return recompress(stack([f for f, _ in terms], [w for _, w in terms]))
