"""Fed-PLoRA: R modules of rank one; a client trains some and folds the others into its base.

    base_i = W0 + Σ_{j∉S_i} b_j a_j,   client i trains (a_j, b_j) for j ∈ S_i, |S_i| = r_i at random
    a_j ← Σ_{i: j∈S_i} p_i a_ij / P_j,   b_j ← Σ_{i: j∈S_i} p_i b_ij / P_j

Every client starts from the whole model, whatever its rank: nothing is truncated. A module that
none of the round's clients trained stays as it was. The choice S_i follows from (seed, round,
client, layer), so a client does not tell which modules it sends.

Zhang, Hu & Xu, Heterogeneous Federated Fine-Tuning with Parallel One-Rank Adaptation, ICLR 2026,
https://arxiv.org/abs/2602.16936
"""

from dataclasses import dataclass

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots
from polyrank.lora.algebra import take
from polyrank.lora.factor import Factors
from polyrank.lora.start import fresh
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Zhang, Hu & Xu, ICLR 2026, arXiv 2602.16936",
    up="r_i(m+n)", down="R(m+n)", server="R modules of rank one", mixed=True, exact=False,
    rounds="its server draws before each round which slots a client trains",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # R modules; slot j is module j
    round: int
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State({n: fresh(f, f.rank, seed, n) for n, f in template.items()}, 0, seed)

    def send(state: State, client: Client) -> Download:
        start, fold = {}, {}
        for name, f in state.factors.items():
            chosen = _chosen(state, client, name)
            start[name] = take(f, chosen)
            if others := [j for j in range(f.rank) if j not in chosen]:
                fold[name] = take(f, others)
        return Download(start=start, fold=fold)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        return slots.add_all(
            partial, state.factors, upload.factors, upload.counts,
            lambda n: _chosen(state, upload.client, n),
        )  # fmt: skip

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = {n: slots.by_holders(s, state.factors[n]) for n, s in partial.items()}
        return State({**state.factors, **heard}, state.round + 1, state.seed), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)


def _chosen(state: State, client: Client, layer: str) -> tuple[int, ...]:
    rank = state.factors[layer].rank
    return slots.choose(rank, client.rank, state.seed, "modules", state.round, client.id, layer)
