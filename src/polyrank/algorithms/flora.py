"""FLoRA: stack every client's factors, an exact sum; everyone folds it in and starts afresh.

    B = [p_1 s_1 B_1 | … | p_K s_K B_K],   A = [A_1; …; A_K],   ΔW ← ΔW + B A

Every client, also one that took no part, folds each round's stack into its base: a client that
was away is sent what it missed, or the whole ΔW in place of it where that is smaller.

Wang et al., FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank
Adaptations, NeurIPS 2024, https://arxiv.org/abs/2409.05976
"""

from collections.abc import Iterable
from dataclasses import dataclass

from polyrank.algorithm import About, Algorithm, Info
from polyrank.lora.algebra import recompress, stack
from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client, Download, Upload
from polyrank.seeds import number

ABOUT = About(
    paper="Wang et al., NeurIPS 2024, arXiv 2409.05976",
    up="r_i(m+n)", down="S(m+n) to every client, S = Σ r_i", server="ΔW exact",
    mixed=True, exact=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    merged: Factors  # ΔW, rank at most min(m, n)
    stacks: tuple[Factors, ...]  # the latest rounds' stacks, the last is number `version`
    version: int
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        empty = {name: Factor(f.a[:0], f.b[:, :0]) for name, f in template.items()}
        return State(empty, (), 0, seed)

    def send(state: State, client: Client) -> Download:
        since, fold = _missing(state, client.seen)
        seed = number(state.seed, "flora", state.version, client.id)
        return Download(fresh=seed, fold=fold, since=since, version=state.version)

    def aggregate(state: State, uploads: Iterable[Upload]) -> tuple[State, Info]:
        parts: dict[str, list[tuple[Factor, float]]] = {name: [] for name in state.merged}
        for upload in uploads:
            for name, f in upload.factors.items():
                parts[name].append((f, float(upload.examples)))
        stacked = {name: _mean(p) for name, p in parts.items() if p}
        if not stacked:
            return state, {}
        merged = {n: _sum([f, stacked[n]]) if n in stacked else f for n, f in state.merged.items()}
        stacks = _recent((*state.stacks, stacked))
        return State(merged, stacks, state.version + 1, state.seed), {"stack": _rank(stacked)}

    def read(state: State) -> Factors:
        return state.merged

    return Algorithm(init, send, aggregate, read)


def _missing(state: State, seen: int) -> tuple[int, Factors]:
    """(since, fold): the stacks after `seen`, or all of ΔW where that is smaller."""
    away = state.version - seen
    if away == 0:
        return seen, {}
    if away == 1:
        return seen, state.stacks[-1]
    if away > len(state.stacks) or _size(state.merged) <= sum(map(_size, state.stacks[-away:])):
        return 0, state.merged
    missed = state.stacks[-away:]
    layers = [name for name in state.merged if any(name in m for m in missed)]
    return seen, {n: _stack([m[n] for m in missed if n in m]) for n in layers}


def _recent(stacks: tuple[Factors, ...]) -> tuple[Factors, ...]:
    """The last stacks, as many as are smaller than ΔW at full rank; the newest always stays."""
    full = {n: min(f.shape) for n, f in stacks[-1].items()}
    for k in range(1, len(stacks)):
        if any(sum(s[n].rank for s in stacks[-k - 1 :] if n in s) > full[n] for n in full):
            return stacks[-k:]
    return stacks


def _mean(parts: list[tuple[Factor, float]]) -> Factor:
    total = sum(examples for _, examples in parts)
    return stack([f for f, _ in parts], [examples / total for _, examples in parts])


def _stack(factors: list[Factor]) -> Factor:
    return stack(factors, [1.0] * len(factors))


def _sum(factors: list[Factor]) -> Factor:
    """The exact sum, recompressed without loss once its rank passes what the layer can hold."""
    total = _stack(factors)
    return recompress(total) if total.rank > min(total.shape) else total


def _size(factors: Factors) -> int:
    return sum(f.a.numel() + f.b.numel() for f in factors.values())


def _rank(factors: Factors) -> int:
    return max(f.rank for f in factors.values())
