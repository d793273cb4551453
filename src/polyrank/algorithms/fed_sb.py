"""Fed-SB: frozen sides, the same for everybody, and a small core between them that is averaged.

    ΔW = B R A,   R = Σ_i p_i R_i        B (m×r), A (r×n): orthonormal, R (r×r)

The mean of the cores is the exact mean of the updates. The sides are the singular directions of
the first update. Reconstructed: the paper takes that update from full gradients on a few of
the clients' examples; here the first round is an ordinary LoRA round, every client from rows
of its own (each is a random sketch of the gradient, and the mean over clients sees more of it),
and the best rank r of its exact mean gives B, A and the first R. Directions that this mean lacks
are filled with random ones, so that R can use them. The sides are sent once.

Singhal et al., Fed-SB: A Silver Bullet for Extreme Communication Efficiency and Performance in
(Private) Federated LoRA Fine-Tuning, TMLR 2026, https://arxiv.org/abs/2502.15436
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from polyrank.algorithm import About, Algorithm, Info, Partial
from polyrank.lora import slots, sums
from polyrank.lora.algebra import framed, resize
from polyrank.lora.equal import check_equal
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.lora.spectral import recompress
from polyrank.lora.start import rows
from polyrank.messages import Client, Download, Upload
from polyrank.seeds import number

ABOUT = About(
    paper="Singhal et al., TMLR 2026, arXiv 2502.15436",
    up="r², and r(m+n) in the first round", down="r², and r(m+n) once",
    server="factors and cores", mixed=False, exact=True,
    rounds="its clients train a core between sides that its first round finds",
)  # fmt: skip
_FRAMED = 1  # the version of a client that has the sides; they never change


@dataclass(frozen=True, slots=True)
class State:
    sides: Factors  # B and A
    core: Dense  # R by layer; empty before the first update
    seed: int


def build() -> Algorithm:
    def init(template: Factors, seed: int) -> State:
        return State(template, {}, seed)

    def send(state: State, client: Client) -> Download:
        if not state.core:
            return Download(fresh=number(state.seed, "fed-sb", client.id))
        start = {} if client.seen == _FRAMED else state.sides
        return Download(
            start=start, core=state.core, train="core", keep="ab",
            since=client.seen, version=_FRAMED,
        )  # fmt: skip

    def add(state: State, partial: Partial, upload: Upload) -> Partial:
        check_equal("fed-sb", upload.client.id, upload.factors, _asked(state))
        if state.core:
            return slots.add_all(partial, _asked(state), upload.factors, upload.counts)
        return sums.add_all(partial, upload.factors, upload.counts)

    def update(state: State, partial: Partial) -> tuple[State, Info]:
        return (_cores if state.core else _first)(state, partial), {}

    def read(state: State) -> Factors:
        return {n: _between(f, state.core[n]) if state.core else f for n, f in state.sides.items()}

    return Algorithm(init, send, add, update, read)


def _asked(state: State) -> Factors:
    """What a client uploads: a core, once there are any, else a whole factor."""
    return {n: Factor(c, c[:0]) for n, c in state.core.items()} if state.core else state.sides


def _first(state: State, products: Mapping[str, sums.Sum]) -> State:
    """The sides and the first cores, from the exact mean of a round of whole factors."""
    if not any(s.total > 0 for s in products.values()):
        return state
    found = {n: _framed(state, n, products.get(n, sums.nothing())) for n in state.sides}
    return State(
        {n: f for n, (f, _) in found.items()}, {n: c for n, (_, c) in found.items()}, state.seed
    )


def _framed(state: State, name: str, products: sums.Sum) -> tuple[Factor, Tensor]:
    """Orthonormal sides of one layer, all directions filled, and the core between them."""
    f = state.sides[name]
    best = resize(recompress(sums.mean(products), f.rank), f.rank) if products.total > 0 else f
    out, width = f.shape
    a = rows(f.rank, width, state.seed, name).to(f.a)
    b = rows(f.rank, out, state.seed, f"{name} columns").to(f.b).T
    return framed(best, a, b)


def _cores(state: State, heard: Mapping[str, slots.Slots]) -> State:
    """The mean of the cores that were sent; other layers' stay."""
    before = _asked(state)
    new = {n: slots.by_holders(s, before[n]).a for n, s in heard.items()}
    return replace(state, core={**state.core, **new})


def _between(sides: Factor, core: Tensor) -> Factor:
    return Factor(core @ sides.a, sides.b)
