"""Catchup: every base catches up with the full-rank update, a rank-r_i piece a round.

    D_g = T_g(ΔW_t − V_g)     V_g ← V_g + D_g     client i: base W0 + V_g, fresh LoRA of rank r_i
    ΔW_{t+1} = ΔW_t + Σ_i p_i s_i B_i A_i

The server keeps ΔW at full rank and, for each rank group g, a shadow V_g: what a client of that
group holds in its base. Each round it sends the best rank-g piece of what the group lacks; the
client folds it in, at no cost in memory or trainable parameters. What was left out stays in
ΔW − V_g and is sent later (error feedback on the way down), so that even a client of rank 2 ends
up with the full-rank model, and its gradients are not taken at a truncated point. A client that
was away fetches the pieces it missed, or V_g whole where that is smaller.

This project's own. Folding is from FLoRA (https://arxiv.org/abs/2409.05976), error feedback from
Seide et al. 2014 and Karimireddy et al. (https://arxiv.org/abs/1901.09847).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from polyrank.algorithm import About, Algorithm, Held, Info
from polyrank.lora.algebra import half, leading, stack, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.folds import Folds, grown, lacking, unfolded
from polyrank.lora.start import share
from polyrank.lora.sums import Sum, add_all, mean, nothing
from polyrank.lora.threshold import thresholded
from polyrank.messages import Client, Download, Upload
from polyrank.seeds import number

ABOUT = About(
    paper="this project",
    up="r_i(m+n)", down="r_i(m+n)", server="ΔW at full rank, a shadow per rank", mixed=True,
    exact=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    delta: Factors  # ΔW, slots by falling singular value
    shadows: Mapping[str, Folds]  # by rank: V_g, of which the last piece is sent in this round
    version: int
    seed: int


def build(
    start: Literal["random", "leading"] = "random",
    down: Annotated[float, Field(gt=0)] = 1.0,
    tau: Annotated[float, Field(gt=0, le=1)] = 1.0,
) -> Algorithm:
    """Fresh rows of A are `random`, or ΔW's `leading` ones; pieces have `down`·r_i slots; the
    server keeps the share `tau` of ΔW's energy (below 1 it forgets what may be noise)."""

    def init(template: Factors, seed: int) -> State:
        return State(unfolded(template).merged, {}, 0, seed)

    def send(state: State, client: Client) -> Download:
        shadow = shadow_of(state, client.rank)
        since, fold = lacking(shadow, client.seen)
        seed = number(state.seed, "catchup", state.version, client.id)
        rows = share(state.delta, client.rank, seed) if start == "leading" else {}
        return Download(
            start={n: half(f, "a") for n, f in rows.items()},
            fresh=seed,
            fold={n: f for n, f in fold.items() if f.rank},
            since=since,
            version=shadow.version,
        )

    def aggregate(state: State, uploads: Iterable[Upload]) -> tuple[State, Info]:
        sums = {name: nothing() for name in state.delta}
        ranks = {int(rank) for rank in state.shadows}
        for upload in uploads:
            ranks.add(upload.client.rank)
            add_all(sums, upload.factors, upload.counts)
        delta = {n: _plus(f, sums[n], tau) for n, f in state.delta.items()}
        seeds = {r: number(state.seed, "piece", state.version, r) for r in sorted(ranks)}
        shadows = {
            str(r): _caught_up(shadow_of(state, r), delta, slots(r), s) for r, s in seeds.items()
        }
        return State(delta, shadows, state.version + 1, state.seed), {}

    def read(state: State) -> Factors:
        return state.delta

    def held(state: State, client: Client) -> Held:
        return {n: (f,) for n, f in shadow_of(state, client.rank).merged.items()}

    def slots(rank: int) -> int:
        return max(1, round(down * rank))

    def shadow_of(state: State, rank: int) -> Folds:
        return state.shadows.get(str(rank)) or _first(state, slots(rank))

    return Algorithm(init, send, aggregate, read, held)


def _first(state: State, slots: int) -> Folds:
    """What a group that never took part holds: its first piece of ΔW."""
    piece = {n: truncate(f, slots) for n, f in state.delta.items()}
    return grown(unfolded(state.delta, state.version), piece)


def _caught_up(shadow: Folds, delta: Factors, slots: int, seed: int) -> Folds:
    """V_g + T_g(ΔW − V_g)."""
    lacks = {n: stack([f, shadow.merged[n]], [1.0, -1.0]) for n, f in delta.items()}
    return grown(shadow, {n: leading(f, slots, seed) for n, f in lacks.items()})


def _plus(delta: Factor, change: Sum, tau: float) -> Factor:
    """ΔW + the weighted mean of the clients' updates, in SVD order."""
    if change.total <= 0:
        return delta
    return thresholded(stack([delta, mean(change)], [1.0, 1.0]), tau)
