"""Catchup: every base catches up with the full-rank update, a rank-r_i piece a round.

    D_g = T_g(ΔW_t − V_g)     client i: base W0 + V_g, trains B_i A_i from D_g     V_g ← V_g + D_g
    ΔW_{t+1} = ΔW_t + (Σ_i p_i C_i N_i)(Σ_i p_i N_i)⁻¹,     C_i = s_i B_i A_i − D_g
    N_i = Π_i + ω(I − Π_i),     Π_i: projects on the rows of A that client i trains from

The server keeps ΔW at full rank and, for each rank group g, a shadow V_g: what a client of that
group holds in its base. Each round it sends the best rank-g piece of what the group lacks. The
client trains that piece, so that its factors start in directions that matter, and its base absorbs
the piece as it was sent, at no cost in memory or trainable parameters. What was left out stays in
ΔW − V_g and is sent later (error feedback on the way down), so that even a client of rank 2 ends
up with the full-rank model, and its gradients are not taken at a truncated point. A client that
was away fetches the pieces it missed, or V_g whole where that is smaller.

A client of rank r moves ΔW in r directions only. In the plain mean of the changes (ω = 1) a
direction that few clients can train is diluted by all the others; here a direction is averaged
over those who train it (lora/coverage.py), with ω for the others. A client that changes nothing
moves nothing, and equal changes are taken as they are, for any ω. What few train is noisy, so that
ω = 1 is better in long runs that end at the noise of the gradients (LOG.md). All clients of a round
draw their fresh rows from one seed, so that the rows of a low rank are among those of a higher one.

With `start=random` the piece is folded in first and fresh factors are trained (A random, B = 0),
as under FLoRA.

This project's own. Unbiased changes are from FedHL (https://arxiv.org/abs/2505.18494), the mean
over those who hold a slot from Byun & Lee (https://arxiv.org/abs/2406.17477), folding from FLoRA
(https://arxiv.org/abs/2409.05976), error feedback from Seide et al. 2014 and Karimireddy et al.
(https://arxiv.org/abs/1901.09847).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from polyrank.algorithm import About, Algorithm, Held, Info, Partial
from polyrank.lora import coverage, sums
from polyrank.lora.algebra import scaled, stack, total, truncate
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.folds import Folds, grown, lacking, unfolded
from polyrank.lora.headed import headed, parts
from polyrank.lora.parallel import each
from polyrank.lora.spectral import recompress
from polyrank.lora.start import share
from polyrank.lora.sums import Sum
from polyrank.lora.threshold import thresholded
from polyrank.messages import Client, Download, Upload
from polyrank.seeds import number

ABOUT = About(
    paper="this project",
    up="r_i(m+n)", down="r_i(m+n)", server="ΔW, shadows", mixed=True,
    exact=False,
    rounds="it averages in the rows of A that clients began with, which adapters do not tell; "
    "flora gives the exact mean",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rank group: V_g before this round's piece, and the piece D_g."""

    base: Folds
    piece: Factors


@dataclass(frozen=True, slots=True)
class State:
    delta: Factors  # ΔW, the leading R slots by falling singular value
    rank: int  # R
    shadows: Mapping[str, Shadow]  # by rank
    version: int
    seed: int


class Options(NamedTuple):
    """What `build` was given."""

    start: str
    down: float
    tau: float
    trust: float

    def slots(self, rank: int) -> int:
        """Of a piece for clients of this rank."""
        return max(1, round(self.down * rank)) if self.start == "random" else rank

    def begun(self, state: State, shadow: Shadow, rank: int) -> dict[str, Factor]:
        """What a client of this rank trains from: the piece, with fresh rows for empty slots."""
        pieces = shadow.piece if self.start == "piece" else unfolded(state.delta).merged
        return share(pieces, rank, number(state.seed, "catchup", state.version))


def build(
    start: Literal["piece", "random"] = "piece",
    down: Annotated[float, Field(gt=0)] = 1.0,
    tau: Annotated[float, Field(gt=0, le=1)] = 1.0,
    trust: Annotated[float, Field(gt=0, le=1)] = 0.3,
) -> Algorithm:
    """Clients train the `piece` they are sent, or `random` fresh factors beside it (a piece then
    has `down`·r_i slots); the server keeps the share `tau` of ΔW's energy (below 1 it forgets what
    may be noise); `trust` is ω, what a client counts in directions that it does not train."""
    chosen = Options(start, down, tau, trust)

    def init(template: Factors, seed: int) -> State:
        rank = max((f.rank for f in template.values()), default=0)
        return State(unfolded(template).merged, rank, {}, 0, seed)

    def send(state: State, client: Client) -> Download:
        shadow = _shadow(state, client.rank, chosen)
        since, fold = lacking(shadow.base, client.seen)
        begun = {}
        if start == "random":
            fold = {n: total([*([fold[n]] if n in fold else []), f])
                    for n, f in shadow.piece.items()}  # fmt: skip
        elif any(f.rank for f in shadow.piece.values()):  # else A is drawn and B is zero
            begun = chosen.begun(state, shadow, client.rank)
        return Download(
            start=begun,
            fresh=number(state.seed, "catchup", state.version),
            fold={n: f for n, f in fold.items() if f.rank},
            since=since,
            version=shadow.base.version + 1,
            absorb=start == "piece",
        )

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        rank, new = upload.client.rank, {}
        for name, f in upload.factors.items():
            before = partial.get(name, {})
            ends = sums.add(before.get(rank, sums.nothing()), f, upload.counts(name))
            new[name] = {**before, rank: ends}
        return {**partial, **new}

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        old = {r: _shadow(state, r, chosen) for r in _ranks(state, partial)}
        begun = {r: chosen.begun(state, s, r) for r, s in old.items()}
        heard = [n for n in state.delta if n in partial]
        moved = each(heard, lambda n: _plus(state, n, _changes(n, partial[n], begun), chosen))
        delta = {**state.delta, **moved}
        shadows = {str(r): _next(s, delta, state.rank, chosen.slots(r)) for r, s in old.items()}
        return replace(state, delta=delta, shadows=shadows, version=state.version + 1), {}

    def read(state: State) -> Factors:
        return state.delta

    def held(state: State, client: Client) -> Held:
        shadow = _shadow(state, client.rank, chosen)
        return {n: (f, shadow.piece[n]) for n, f in shadow.base.merged.items()}

    return Algorithm(init, send, add, update, read, held)


def _shadow(state: State, rank: int, chosen: Options) -> Shadow:
    """A group's shadow; one that never took part holds nothing and gets its first piece of ΔW."""
    if str(rank) in state.shadows:
        return state.shadows[str(rank)]
    piece = {n: truncate(f, chosen.slots(rank)) for n, f in state.delta.items()}
    return Shadow(unfolded(state.delta, state.version), piece)


def _ranks(state: State, partial: Partial) -> list[int]:
    """Of every group that has taken part by now."""
    return sorted({int(r) for r in state.shadows} | {r for ends in partial.values() for r in ends})


def _next(shadow: Shadow, delta: Factors, rank: int, slots: int) -> Shadow:
    """V_g + D_g, and the best piece of what it then lacks."""
    base = grown(shadow.base, shadow.piece)

    def piece(name: str) -> Factor:
        held = base.merged[name]
        lacks = total([*parts(delta[name], rank), scaled(held, -1.0)])
        return recompress(lacks, slots)

    return Shadow(base, each(list(delta), piece))


def _changes(
    name: str, ends: Mapping[int, Sum], begun: Mapping[int, Factors]
) -> list[coverage.Covered]:
    """Σ_{i∈g} p_i C_i of every rank group that has a weight, with the rows it trained from."""
    weight = sum(s.total for s in ends.values())
    found = []
    for rank, s in sorted(ends.items()):
        if s.total > 0:
            start = begun[rank][name]
            parts, weights = [*s.parts, start], [*[1 / weight] * len(s.parts), -s.total / weight]
            found.append(coverage.Covered(stack(parts, weights), s.total / weight, start.a))
    return found


def _plus(state: State, name: str, changes: list[coverage.Covered], chosen: Options) -> Factor:
    """ΔW and the mean change, the leading slots in SVD order."""
    delta = state.delta[name]
    if not changes:
        return delta
    whole = total([*parts(delta, state.rank), coverage.mean(changes, chosen.trust)])
    return headed(whole, state.rank) if chosen.tau == 1 else thresholded(whole, chosen.tau)
