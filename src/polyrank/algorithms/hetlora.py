"""HetLoRA: zero padding with weights by the size of the updates; clients prune their own rank.

    A_g[j] = Σ_{i∈H_j} p_i A_i[j],   B_g[:, j] = Σ_{i∈H_j} p_i s_i B_i[:, j],   p_i ∝ ‖s_i B_i A_i‖
    local loss + λ‖B[:, k:]‖·‖A[k:]‖,   k = ⌊γr⌋;   the rank becomes k where that tail shrank

A client that cut its rank is sent no more than that from then on. If it is asked for another rank
(the paper does not say), the cut is forgotten: it was made at the rank before.

Cho et al., Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models,
EMNLP 2024, https://arxiv.org/abs/2401.06432
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots
from polyrank.lora.factor import Factors
from polyrank.lora.start import share
from polyrank.messages import Client, Download, Prune, Upload

Share = Annotated[float, Field(gt=0, le=1)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]

ABOUT = About(
    paper="Cho et al., EMNLP 2024, arXiv 2401.06432",
    up="r_i(m+n)", down="r_i(m+n)", server="R factors", mixed=True, exact=False,
    weights="norm",
    rounds="its clients cut their ranks in training; what is left without them is zero-pad",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R
    pruned: Mapping[str, tuple[int, int]]  # by client that cut its rank: (asked for, left)
    seed: int


def build(gamma: Share = 0.99, penalty: Strength = 1e-3) -> Algorithm:
    """A cut leaves the share `gamma` of a rank; `penalty` is λ (its default is this project's)."""
    prune = Prune(keep=gamma, penalty=penalty)

    def init(template: Factors, seed: int) -> State:
        return State(template, {}, seed)

    def send(state: State, client: Client) -> Download:
        rank = _rank(state, client)
        return Download(start=share(state.factors, rank, state.seed), prune=prune)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        sums = partial.get("sums", {})
        return {
            "sums": slots.add_all(sums, state.factors, upload.factors, upload.counts),
            "pruned": {**partial.get("pruned", {}), **_cut(upload)},
        }

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        sums = partial.get("sums", {})
        heard = {name: slots.diluted(s) for name, s in sums.items() if s.total > 0}
        pruned = {**state.pruned, **partial.get("pruned", {})}
        state = State({**state.factors, **heard}, pruned, state.seed)
        return state, {"pruned": {client: left for client, (_, left) in pruned.items()}}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)


def _rank(state: State, client: Client) -> int:
    """What a cut left of the rank that the client is asked for; else all of it."""
    asked, left = state.pruned.get(client.id, (0, 0))
    return left if asked == client.rank else client.rank


def _cut(upload: Upload) -> dict[str, tuple[int, int]]:
    """The client's cut, if it sent less than its rank; a client cuts all its layers alike."""
    asked = upload.client.rank
    left = min((f.rank for f in upload.factors.values()), default=asked)
    return {upload.client.id: (asked, left)} if left < asked else {}
