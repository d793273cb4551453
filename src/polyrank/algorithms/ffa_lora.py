"""FFA-LoRA: A is random, the same for everybody, and stays; only B is trained and averaged.

    A_i = the first r_i rows of A(seed),   B_g[:, j] = Σ_{i∈H_j} p_i s_i B_i[:, j] / P_j

A is drawn from a shared seed and never sent. With equal ranks B_g A is the exact mean of the
clients' updates, and noise on B alone (differential privacy) is not squared. The paper has equal
ranks; the mean over a slot's holders H_j is this project's form for any.

Sun et al., Improving LoRA in Privacy-preserving Federated Learning, ICLR 2024,
https://arxiv.org/abs/2403.12313
"""

from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import sides, slots
from polyrank.lora.algebra import half, truncate
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Sun et al., ICLR 2024, arXiv 2403.12313",
    up="r_i·m", down="r_i·m", server="R columns of B, a seed for A", mixed=True, exact=False,
    rounds="it averages B alone, which needs one frozen A that everybody trained beside",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R; A never changes
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(sides.drawn(template, seed), seed)

    def send(state: State, client: Client) -> Download:
        start = {n: half(truncate(f, client.rank), "b") for n, f in state.factors.items()}
        return Download(start=start, fresh=state.seed, train="b")

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        like = sides.like(state.factors, "b")
        return slots.add_all(partial, like, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        return replace(state, factors=sides.averaged(state.factors, partial, "b")), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)
