"""FedSA-LoRA: both sides are trained, A is averaged, and B never leaves its client.

    A_g[j] = Σ_{i∈H_j} p_i A_i[j] / P_j        client i ends with s_i B_i A_g[:r_i], B_i its own

Every client has a model of its own; what the server holds, and hands to a newcomer, is A with
B = 0. The paper has equal ranks; the mean over a slot's holders H_j is this project's form for
any.

Guo et al., Selective Aggregation for Low-Rank Adaptation in Federated Learning, ICLR 2025,
https://arxiv.org/abs/2410.01463
"""

from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import sides, slots
from polyrank.lora.algebra import half, truncate
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Guo et al., ICLR 2025, arXiv 2410.01463",
    up="r_i·n", down="r_i·n", server="R rows of A", mixed=True, exact=False, personal=True,
    rounds="every client keeps its own B, so that there is no one model",
)  # fmt: skip
_OWN = 1  # the version of a client that has a B; it is its own, and never out of date


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R; B is 0


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(sides.drawn(template, seed))

    def send(state: State, client: Client) -> Download:
        start = {n: half(truncate(f, client.rank), "a") for n, f in state.factors.items()}
        return Download(start=start, send="a", keep="b", since=client.seen, version=_OWN)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        like = sides.like(state.factors, "a")
        return slots.add_all(partial, like, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        return replace(state, factors=sides.averaged(state.factors, partial, "a")), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)
