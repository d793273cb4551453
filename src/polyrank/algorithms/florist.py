"""FLoRIST: add the round's updates exactly and keep the fewest slots that hold τ of the energy.

    ΔW ← T_p(ΔW + Σ_i p_i s_i B_i A_i),    p = min{k : Σ_{j≤k} σ_j² ≥ τ·Σ_j σ_j²}

One adapter of rank p goes to every client, whatever its own rank; τ = 1 is FLoRA at a bounded
rank. Reconstructed: what a client does with an adapter that is wider than its rank. As under FLoRA
it folds it into the pretrained base (the whole adapter each time, so that nobody misses anything)
and trains fresh factors of its own rank, B = 0; τ is of the energy of all of ΔW, not of a round's.

Ramesh & Dass, FLoRIST: Singular Value Thresholding for Efficient and Accurate Federated
Fine-Tuning of Large Language Models, MLSys 2026, https://arxiv.org/abs/2506.09199
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora.algebra import total
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.parallel import each
from polyrank.lora.sums import add_all, mean
from polyrank.lora.threshold import thresholded
from polyrank.messages import Client, Download, Upload
from polyrank.seeds import number

Share = Annotated[float, Field(gt=0, le=1)]

ABOUT = About(
    paper="Ramesh & Dass, MLSys 2026, arXiv 2506.09199",
    up="r_i(m+n)", down="p(m+n), p the rank that holds τ", server="ΔW at rank p",
    mixed=True, exact=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    adapter: Factors  # ΔW at rank p; no rank at first
    round: int
    seed: int


def build(tau: Share = 0.99) -> Algorithm:
    """`tau` is the share of ΔW's energy that the adapter keeps; 1 keeps all."""

    def init(template: Factors, seed: int) -> State:
        return State({n: Factor(f.a[:0], f.b[:, :0]) for n, f in template.items()}, 0, seed)

    def send(state: State, client: Client) -> Download:
        fold = {name: f for name, f in state.adapter.items() if f.rank}
        return Download(fresh=number(state.seed, "florist", state.round, client.id), fold=fold)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        return add_all(partial, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = [name for name, s in partial.items() if s.total > 0]
        moved = each(heard, lambda n: _moved(state.adapter[n], mean(partial[n]), tau))
        adapter = {**state.adapter, **moved}
        ranks = {name: f.rank for name, f in adapter.items()}
        return State(adapter, state.round + 1, state.seed), {"ranks": ranks}

    def read(state: State) -> Factors:
        return state.adapter

    return Algorithm(init, send, add, update, read)


def _moved(adapter: Factor, mean: Factor, tau: float) -> Factor:
    return thresholded(total([adapter, mean]), tau)
