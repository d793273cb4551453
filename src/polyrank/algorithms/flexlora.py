"""FlexLoRA: average the products exactly, then hand each client its best low-rank share.

    ΔW = T_R(Σ_i p_i s_i B_i A_i),   client i starts from T_{r_i}(ΔW)

T_r is the best rank-r approximation (SVD). What a low rank cannot hold is lost at every round:
with clients that change nothing, the j-th singular value decays as P_j^t.

Bai et al., Federated Fine-tuning of LLMs under Heterogeneous Tasks and Client Resources,
NeurIPS 2024, https://arxiv.org/abs/2402.11505
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora.algebra import resize
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.parallel import each
from polyrank.lora.spectral import best
from polyrank.lora.start import share
from polyrank.lora.sums import add_all, parts
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Bai et al., NeurIPS 2024, arXiv 2402.11505",
    up="r_i(m+n)", down="r_i(m+n)", server="ΔW at rank R", mixed=True, exact=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    delta: Factors  # ΔW at rank R, slots by falling singular value
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(template, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.delta, client.rank, state.seed))

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        return add_all(partial, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = [name for name, s in partial.items() if s.total > 0]
        moved = each(heard, lambda n: _best(parts(partial[n]), state.delta[n].rank))
        return replace(state, delta={**state.delta, **moved}), {}

    def read(state: State) -> Factors:
        return state.delta

    return Algorithm(init, send, add, update, read)


def _best(mean: Sequence[Factor], rank: int) -> Factor:
    return resize(best(mean, rank), rank)
