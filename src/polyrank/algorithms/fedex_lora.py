"""FedEx-LoRA: average the factors as FedIT does, and fold what that misses into everyone's base.

    Ā = Σ_i p_i A_i,   B̄ = Σ_i p_i s_i B_i,   E = Σ_i p_i s_i B_i A_i − B̄ Ā
    W0 ← W0 + E,   clients start from (B̄, Ā):   ΔW = Σ E + B̄ Ā  is the exact mean

E is sent as factors, of rank at most S + r and min(m, n). A client that was away is sent the
folds that it missed, or all of them in one where that is smaller.

Singhal et al., FedEx-LoRA: Exact Aggregation for Federated and Efficient Fine-Tuning of
Large Language Models, ACL 2025, https://arxiv.org/abs/2410.09432
"""

from dataclasses import dataclass, replace

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots, sums
from polyrank.lora.algebra import scaled, total
from polyrank.lora.equal import check_equal
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.folds import Folds, grown, lacking, unfolded
from polyrank.lora.start import share
from polyrank.messages import Client, Download, Upload

ABOUT = About(
    paper="Singhal et al., ACL 2025, arXiv 2410.09432",
    up="r(m+n)", down="r(m+n), and (S+r)(m+n) for the residual, S = Σ r",
    server="factors, ΣE exact", mixed=False, exact=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    means: Factors  # B̄ and Ā; stepping them would leave E, which corrects them, behind
    folds: Folds
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(template, unfolded(template), seed)

    def send(state: State, client: Client) -> Download:
        since, fold = lacking(state.folds, client.seen)
        start = share(state.means, client.rank, state.seed)
        return Download(start=start, fold=fold, since=since, version=state.folds.version)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        check_equal("fedex-lora", upload.client.id, upload.factors, state.means)
        means, products = partial.get("means", {}), partial.get("products", {})
        return {
            "means": slots.add_all(means, state.means, upload.factors, upload.counts),
            "products": sums.add_all(products, upload.factors, upload.counts),
        }

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        products = partial.get("products", {})
        heard = [name for name in state.means if name in products and products[name].total > 0]
        if not heard:
            return state, {}
        means = {
            n: slots.by_holders(partial["means"][n], f) if n in partial["means"] else f
            for n, f in state.means.items()
        }
        residual = {n: _missed(sums.mean(products[n]), means[n]) for n in heard}
        rank = max(f.rank for f in residual.values())
        return replace(state, means=means, folds=grown(state.folds, residual)), {"residual": rank}

    def read(state: State) -> Factors:
        return {n: total([state.folds.merged[n], f]) for n, f in state.means.items()}

    return Algorithm(init, send, add, update, read)


def _missed(exact: Factor, means: Factor) -> Factor:
    """E: the mean of the products less the product of the means."""
    return total([exact, scaled(means, -1.0)])
