"""LoRA-FAIR: average A and B separately, then correct B so that the product is the exact mean.

    Ā, B̄: each slot's mean over its holders
    E = Σ_i p_i s_i B_i A_i − B̄ diag(P) Ā,    P_j = Σ_{i∈H_j} p_i
    B̄ ← B̄ + ΔB,    ΔB = argmin ‖E − ΔB Ā‖² + λ‖ΔB‖² = E Āᵀ (Ā Āᵀ + λI)⁻¹

With equal ranks P is 1 and E is what averaging factors misses. Reconstructed: the paper finds ΔB
by gradient steps on a cosine similarity with a penalty on ΔB; this is the least-squares form,
whose minimum is closed. With mixed ranks the mean that is aimed at is that of clients padded with
their holders' mean, not with zeros: for clients that change nothing E is 0, while the target
Σ p_i s_i B_i A_i would cut every slot down to its holders' share, round after round. Slots that
none of the round's clients holds stay as they were.

Bian et al., LoRA-FAIR: Federated LoRA Fine-Tuning with Aggregation and Initialization Refinement,
ICCV 2025, https://arxiv.org/abs/2411.14961
"""

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots, sums
from polyrank.lora.algebra import ridge, stack
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import share
from polyrank.messages import Client, Download, Upload

Penalty = Annotated[float, Field(gt=0, allow_inf_nan=False)]

ABOUT = About(
    paper="Bian et al., ICCV 2025, arXiv 2411.14961",
    up="r_i(m+n)", down="r_i(m+n)", server="R factors", mixed=True, exact=False,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    factors: Factors  # rank R
    seed: int


def build(lam: Penalty = 0.01) -> Algorithm:
    """`lam` is λ, to be compared with the squared length of a row of A (about 1 at the start)."""

    def init(template: Factors, seed: int) -> State:
        return State(template, seed)

    def send(state: State, client: Client) -> Download:
        return Download(start=share(state.factors, client.rank, state.seed))

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        factors, products = partial.get("factors", {}), partial.get("products", {})
        return {
            "factors": slots.add_all(factors, state.factors, upload.factors, upload.counts),
            "products": sums.add_all(products, upload.factors, upload.counts),
        }

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        heard = {
            n: _corrected(s, partial["products"][n], state.factors[n], lam)
            for n, s in partial.get("factors", {}).items()
            if s.total > 0
        }
        return replace(state, factors={**state.factors, **heard}), {}

    def read(state: State) -> Factors:
        return state.factors

    return Algorithm(init, send, add, update, read)


def _corrected(heard: slots.Slots, products: sums.Sum, before: Factor, lam: float) -> Factor:
    """The holders' means, with B̄ + ΔB in the slots that have holders."""
    mean = slots.by_holders(heard, before)
    share = heard.held / heard.total  # P
    padded = Factor(mean.a, share * mean.b)
    residual = stack([sums.mean(products), padded], [1.0, -1.0])
    rows = (share > 0)[:, None] * mean.a
    return Factor(mean.a, mean.b + ridge(residual, rows, lam))
