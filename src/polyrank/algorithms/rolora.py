"""RoLoRA: train and average B in even rounds, A in odd ones, the other side frozen.

    t even:  B_g[:, j] = Σ_{i∈H_j} p_i s_i B_i[:, j] / P_j
    t odd:   A_g[j] = Σ_{i∈H_j} p_i A_i[j] / P_j

With equal ranks either mean is the exact mean of the clients' updates. A client keeps the side
that was frozen, which the round cannot change: next round it is sent the other one alone, and
both if it was away. The paper has equal ranks; the mean over a slot's holders H_j is this
project's form for any.

Chen et al., Robust Federated Finetuning of LLMs via Alternating Optimization of LoRA,
NeurIPS 2025, https://arxiv.org/abs/2502.01755
"""

from dataclasses import dataclass

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import sides, slots
from polyrank.lora.algebra import half, truncate
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Chen et al., NeurIPS 2025, arXiv 2502.01755",
    up="r_i·m or r_i·n in turn", down="r_i·n or r_i·m in turn, both after an absence",
    server="R factors", mixed=True, exact=False,
    rounds="its clients train B in one round and A in the next",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    sides: Factors  # rank R; momentum would move the frozen side, which clients keep
    round: int  # rounds that somebody replied in


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(sides.drawn(template, seed), 0)

    def send(state: State, client: Client) -> Download:
        trained, frozen = sides.turn(state.round)
        # Version v has the side that round v − 1 froze: it is current in round v alone.
        since = client.seen if client.seen == state.round else 0
        start = {
            n: half(truncate(f, client.rank), frozen if since else "ab")
            for n, f in state.sides.items()
        }
        version = state.round + 1
        return Download(start=start, train=trained, keep=frozen, since=since, version=version)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        like = sides.like(state.sides, sides.turn(state.round)[0])
        return slots.add_all(partial, like, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        if not any(s.total > 0 for s in partial.values()):
            return state, {}
        trained, _ = sides.turn(state.round)
        return State(sides.averaged(state.sides, partial, trained), state.round + 1), {}

    def read(state: State) -> Factors:
        return state.sides

    return Algorithm(init, send, add, update, read)
