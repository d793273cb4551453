"""Zero padding: average A and B slot by slot over everyone; clients take the leading slots.

    A_g[j] = Σ_{i∈H_j} p_i A_i[j],   B_g[:, j] = Σ_{i∈H_j} p_i s_i B_i[:, j]

A slot that few clients hold is divided by everyone: the dilution P_j = Σ_{i∈H_j} p_i.

The conventional baseline of Cho et al., Heterogeneous LoRA for Federated Fine-tuning of
On-Device Foundation Models, EMNLP 2024, https://arxiv.org/abs/2401.06432
"""

from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots
from polyrank.lora.factor import Factors
from polyrank.lora.start import share
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Cho et al., EMNLP 2024, arXiv 2401.06432 (as a baseline)",
    up="r_i(m+n)", down="r_i(m+n)", server="R factors", mixed=True, exact=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(template, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.factors, client.rank, state.seed))

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        return slots.add_all(partial, state.factors, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = {name: slots.diluted(s) for name, s in partial.items() if s.total > 0}
        return replace(state, factors={**state.factors, **heard}), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)
