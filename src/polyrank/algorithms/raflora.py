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

from collections.abc import Mapping
from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora.algebra import resize, take, total
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.parallel import each
from polyrank.lora.spectral import recompress
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

    def add_upload(state: State, partial: Partial, upload: Upload) -> Partial:
        layers = upload.factors.items()
        new = {n: _slots(partial.get(n, {}), recompress(f), upload.counts(n)) for n, f in layers}
        return {**partial, **new}

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = each(list(partial), lambda n: _mean(partial[n], state.delta[n]))
        return replace(state, delta={**state.delta, **heard}), {}

    def read(state: State) -> Factors:
        return state.delta

    return Algorithm(init, send, add_upload, update, read)


def _slots(sums: Mapping[int, Sum], f: Factor, weight: float) -> dict[int, Sum]:
    """Each slot of a client to the sum of its own."""
    new = {j: add(sums.get(j, nothing()), take(f, [j]), weight) for j in range(f.rank)}
    return {**sums, **new}


def _mean(sums: Mapping[int, Sum], before: Factor) -> Factor:
    """T_R of every slot's mean over its holders, and of the slots before that have none."""
    held = {j: mean(s) for j, s in sorted(sums.items()) if s.total > 0 and j < before.rank}
    if not held:
        return before
    kept = take(before, [j for j in range(before.rank) if j not in held])
    return resize(recompress(total([*held.values(), kept]), before.rank), before.rank)
