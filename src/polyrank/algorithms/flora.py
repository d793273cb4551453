"""FLoRA: stack every client's factors, an exact sum; everyone folds it in and starts afresh.

    B = [p_1 s_1 B_1 | … | p_K s_K B_K],   A = [A_1; …; A_K],   ΔW ← ΔW + B A

Every client, also one that took no part, folds each round's stack into its base: a client that
was away is sent what it missed, or the whole ΔW in place of it where that is smaller.

Wang et al., FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank
Adaptations, NeurIPS 2024, https://arxiv.org/abs/2409.05976
"""

from collections.abc import Sequence
from dataclasses import dataclass

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora.algebra import stack
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.folds import Folds, grown, lacking, unfolded
from polyrank.messages import Client, Download, Upload
from polyrank.seeds import number

ABOUT = About(
    paper="Wang et al., NeurIPS 2024, arXiv 2409.05976",
    up="r_i(m+n)", down="S(m+n) to every client, S = Σ r_i", server="ΔW exact",
    mixed=True, exact=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    folds: Folds  # ΔW, and the latest rounds' stacks
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(unfolded(template), seed)

    def send(state: State, client: Client) -> Download:
        since, fold = lacking(state.folds, client.seen)
        seed = number(state.seed, "flora", state.folds.version, client.id)
        return Download(fresh=seed, fold=fold, since=since, version=state.folds.version)

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        layers = upload.factors.items()
        new = {n: (*partial.get(n, ()), (f, upload.counts(n))) for n, f in layers}
        return {**partial, **new}

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        stacked = {n: _mean(partial[n]) for n in state.folds.merged if n in partial}
        if not stacked:
            return state, {}
        rank = max(f.rank for f in stacked.values())
        return State(grown(state.folds, stacked), state.seed), {"stack": rank}

    def read(state: State) -> Factors:
        return state.folds.merged

    return Algorithm(init, send, add, update, read)


def _mean(parts: Sequence[tuple[Factor, float]]) -> Factor:
    total = sum(weight for _, weight in parts)
    return stack([f for f, _ in parts], [weight / total for _, weight in parts])
