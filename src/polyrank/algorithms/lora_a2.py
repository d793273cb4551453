"""LoRA-A²: alternate between B and A, and let each client choose the slots that it trains.

    t even:  B_g[:, j] = Σ_{i∈H_j} p_i s_i B_i[:, j] / P_j
    t odd:   A_g[j] = Σ_{i∈H_j} p_i A_i[j] / P_j

Everybody is sent all R slots and chooses r_i a layer on average, over all layers at once, by
their importance to its data; a layer may get none. It trains and uploads one side of those, and
H_j are the clients that chose slot j. A slot that nobody chose stays. Reconstructed: the mean
over those who chose a slot, and one learning rate for both sides (the paper tunes one for each).

Koo et al., Towards Robust and Efficient Federated Low-Rank Adaptation with Heterogeneous
Clients, ACL 2025, https://arxiv.org/abs/2410.22815
"""

from dataclasses import dataclass

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import sides, slots
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Koo et al., ACL 2025, arXiv 2410.22815",
    up="r_i·m or r_i·n in turn, on average", down="R(m+n)", server="R factors",
    mixed=True, exact=False,
    rounds="its clients train B in one round and A in the next, in slots that they choose",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R
    round: int  # rounds that somebody replied in


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(sides.drawn(template, seed), 0)

    def send(state: State, client: Client) -> Download:
        trained, _ = sides.turn(state.round)
        return Download(start=state.factors, train=trained, select=client.rank)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        like = sides.like(state.factors, sides.turn(state.round)[0])
        return slots.add_all(partial, like, upload.factors, upload.counts, upload.slots.get)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        if not any(s.total > 0 for s in partial.values()):
            return state, {}
        trained, _ = sides.turn(state.round)
        return State(sides.averaged(state.factors, partial, trained), state.round + 1), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)
