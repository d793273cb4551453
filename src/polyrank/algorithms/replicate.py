"""Replication: fill a low-rank client's missing slots with what their holders agreed on.

    h_j = Σ_{i∈H_j} p_i x_i[j] / P_j        x̃_i[j] = x_i[j] if j ≤ r_i else h_j
    x_g[j] = Σ_i p_i x̃_i[j] = h_j           (x is A, and B with its scale folded in)

Factors are padded and averaged, not products. With `fill="weighted"` a slot becomes the mean
over its holders; with `fill="mean"` the copy is the holders' unweighted mean instead:
x_g[j] = Σ_{i∈H_j} p_i x_i[j] + (1 − P_j)·mean_{H_j} x_i[j]. The paper has two rank levels, this
form is for any number. A slot that none of the round's clients holds stays as it was.

Byun & Lee, Towards Federated Low-Rank Adaptation with Rank-Heterogeneous Communication,
NAACL 2025, https://arxiv.org/abs/2406.17477
"""

from dataclasses import dataclass, replace
from typing import Literal

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import share
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Byun & Lee, NAACL 2025, arXiv 2406.17477",
    up="r_i(m+n)", down="r_i(m+n)", server="R factors", mixed=True, exact=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R
    seed: int


def build(fill: Literal["weighted", "mean"] = "weighted") -> Algorithm:
    """Fill missing slots with the holders' `weighted` mean, or their unweighted `mean`."""

    def init(template: Factors, seed: int) -> State:
        return State(template, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.factors, client.rank, state.seed))

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        return {
            "weighted": slots.add_all(
                partial.get("weighted", {}), state.factors, upload.factors, upload.counts
            ),
            "equal": slots.add_all(
                partial.get("equal", {}), state.factors, upload.factors, lambda layer: 1.0
            ),
        }

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        weighted, equal = partial.get("weighted", {}), partial.get("equal", {})
        heard = {n: filled(weighted[n], equal[n], state.factors[n]) for n in weighted}
        return replace(state, factors={**state.factors, **heard}), {}

    def filled(weighted: slots.Slots, equal: slots.Slots, before: Factor) -> Factor:
        mean = slots.by_holders(weighted, before)
        if fill == "weighted" or weighted.total == 0:
            return mean
        held = weighted.held / weighted.total  # P_j
        copy = slots.by_holders(equal, before)
        return Factor(
            held[:, None] * mean.a + (1 - held)[:, None] * copy.a,
            held * mean.b + (1 - held) * copy.b,
        )

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)
