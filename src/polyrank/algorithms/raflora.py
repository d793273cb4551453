"""RaFLoRA: average each partition of the rank over the clients that hold it, then cut to rank R.

    ΔW = T_R( Σ_h Σ_{i: r_i≥h} (p_i/P_h) B_i[:, l:h] A_i[l:h] ),    P_h = Σ_{i: r_i≥h} p_i

l < h are consecutive distinct ranks and every client's factors are in SVD order. P is the same for
all slots of a partition, so it is summed slot by slot here, in one pass and without knowing which
ranks will come: the memory is that of the uploads, and never more than R times the layer's.
Where no client changes anything the state does not move: flexlora's decay as P_j^t is gone.

Reconstructed: slots that none of the round's clients holds keep ΔW as it was, where the published
sum would drop them (with clients of one rank only, this is FedHL with the same weights).

Wu et al., Preventing Rank Collapse in Federated Low-Rank Adaptation with Client Heterogeneity,
https://arxiv.org/abs/2602.13486
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info
from polyrank.lora.algebra import recompress, resize, stack, take
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import share
from polyrank.lora.sums import Sum, add, mean, nothing
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Wu et al., 2026, arXiv 2602.13486",
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

    def aggregate(state: State, uploads: Iterable[Upload]) -> tuple[State, Info]:
        sums = {name: [nothing()] * f.rank for name, f in state.delta.items()}
        for upload in uploads:
            for name, f in upload.factors.items():
                _add_slots(sums[name], recompress(f), upload.counts(name))
        return replace(state, delta={n: _mean(sums[n], f) for n, f in state.delta.items()}), {}

    def read(state: State) -> Factors:
        return state.delta

    return Algorithm(init, send, aggregate, read)


def _add_slots(sums: list[Sum], f: Factor, weight: float) -> None:
    """Each slot of a client to the sum of its own; the list is changed."""
    for j in range(f.rank):
        sums[j] = add(sums[j], take(f, [j]), weight)


def _mean(sums: Sequence[Sum], before: Factor) -> Factor:
    """T_R of every slot's mean over its holders, and of the slots before that have none."""
    held = [mean(s) for s in sums if s.total > 0]
    if not held:
        return before
    kept = take(before, [j for j, s in enumerate(sums) if s.total <= 0])
    parts = [*held, kept]
    return resize(recompress(stack(parts, [1.0] * len(parts))), before.rank)
