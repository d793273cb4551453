"""FSLoRA: each client trains an unbiased random sketch of one model of rank R.

    client:  W_i = W0 + B S_i A,   S_i = (R/r_i)·diag(r_i random slots)          E[S_i] = I
    server:  A ← A + Σ_i p_i (A_i − A)|S_i,   B ← B + Σ_i p_i (B_i − B)|S_i

Slots that a client was not sent count as unchanged, so p is of everyone; the paper's is 1/N. The
slots are the same for A and B and follow from (seed, round, client, layer): a client does not tell
which they are. A starts random on the server, since all clients share its slots.

Fang et al., Federated Sketching LoRA: A Flexible Framework for Heterogeneous Collaborative
Fine-Tuning of LLMs, ICML 2026, https://arxiv.org/abs/2501.19389
"""

from dataclasses import dataclass

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots
from polyrank.lora.algebra import fold, take
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import fresh
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Fang et al., ICML 2026, arXiv 2501.19389",
    up="r_i(m+n)", down="r_i(m+n)", server="R factors", mixed=True, exact=False,
    weights="uniform",
    rounds="its server draws before each round which slots a client trains",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R, scale 1
    round: int
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State({n: fresh(f, f.rank, seed, n) for n, f in template.items()}, 0, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start={n: _sketch(state, client, n) for n in state.factors})

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        client = upload.client
        changes = {n: _change(_sketch(state, client, n), f) for n, f in upload.factors.items()}
        return slots.add_all(
            partial, state.factors, changes, upload.counts, lambda n: _chosen(state, client, n)
        )

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = {n: slots.diluted(s) for n, s in partial.items() if s.total}
        moved = {n: _step(state.factors[n], change) for n, change in heard.items()}
        return State({**state.factors, **moved}, state.round + 1, state.seed), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)


def _chosen(state: State, client: Client, layer: str) -> tuple[int, ...]:
    rank = state.factors[layer].rank
    return slots.choose(rank, client.rank, state.seed, "sketch", state.round, client.id, layer)


def _sketch(state: State, client: Client, layer: str) -> Factor:
    """B S_i A: the client's slots, scaled by R/r_i."""
    f = state.factors[layer]
    part = take(f, _chosen(state, client, layer))
    return Factor(part.a, part.b, f.rank / part.rank)


def _change(before: Factor, after: Factor) -> Factor:
    """What training changed in each slot's a and b, whatever scale `after` is written with."""
    return Factor(after.a - before.a, fold(after).b / before.scale - before.b)


def _step(f: Factor, change: Factor) -> Factor:
    return Factor(f.a + change.a, f.b + change.b)
