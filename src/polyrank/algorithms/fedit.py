"""FedIT: average A and B separately; every client has the same rank.

    A_g = Σ_i p_i A_i,   B_g = Σ_i p_i s_i B_i

The mean of factors is not the mean of products: cross terms B_i A_k enter with i ≠ k.

Zhang et al., Towards Building the Federated GPT: Federated Instruction Tuning, ICASSP 2024,
https://arxiv.org/abs/2305.05644
"""

from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots
from polyrank.lora.equal import check_equal
from polyrank.lora.factor import Factors
from polyrank.lora.start import share
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Zhang et al., ICASSP 2024, arXiv 2305.05644",
    up="r(m+n)", down="r(m+n)", server="factors", mixed=False, exact=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # the one rank that all clients have
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(template, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.factors, client.rank, state.seed))

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        check_equal("fedit", upload.client.id, upload.factors, state.factors)
        return slots.add_all(partial, state.factors, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = {n: slots.by_holders(s, state.factors[n]) for n, s in partial.items()}
        return replace(state, factors={**state.factors, **heard}), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)
