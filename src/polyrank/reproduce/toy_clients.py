"""The toy problem's clients: an engine without a model, whose gradients are written by hand.

    G = (W − W*_i) Σ + noise,   B ← B − η s G Aᵀ,   A ← A − η s Bᵀ G

What a client does with a download (folds, kept sides, a seed, a core, a choice of slots, a cut) is
the package's own, or follows client/fit.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from polyrank.client.private import Private, base_of, kept
from polyrank.client.rules import chosen, pruned
from polyrank.client.start import begin
from polyrank.lora.algebra import half, regauge, take
from polyrank.lora.factor import Factor, parameters
from polyrank.lora.update import Update, dense
from polyrank.messages import Client, Download, Upload
from polyrank.reproduce.toy import (
    EXAMPLES,
    LAYER,
    Matrix,
    Problem,
    Setting,
    core_gradient,
    factor_gradients,
    normal,
    tail_gradients,
    template,
)
from polyrank.server.loop import Reply


@dataclass(frozen=True, slots=True)
class Trace:
    """What one client did in a round.

    Args:
        begun: the dense update that it held before it trained.
        ended: the one that it held after.
        down: numbers that it was sent (folds included).
        up: numbers that it sent.
    """

    begun: Matrix
    ended: Matrix
    down: int
    up: int


@dataclass(slots=True)
class Players:
    """An engine: clients that step on the factors of the one layer, without a model.

    Args:
        problem: what they minimise.
        setting: their noise and steps.
        lr: their learning rate; 0 leaves every client where it started.
        seed: of the noise, which is the same under every algorithm.
        private: by client, what it keeps.
        traces: by client, what it did in the last round.
    """

    problem: Problem
    setting: Setting
    lr: float
    seed: int
    private: dict[str, Private] = field(default_factory=dict)
    traces: dict[str, Trace] = field(default_factory=dict)

    def exchange(self, round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        """Every client's round: fold, train, keep, send."""
        for client, download in sent:
            yield Reply(client, self._play(round, client, download))

    def _play(self, round: int, client: Client, download: Download) -> Upload:
        before = self.private.get(client.id, {})
        base = base_of(download, client, before)
        drawn = begin(download, client, template(self.setting, client.rank), before)
        # A client trains at the scale of its recipe, here 1, whatever the scale it was sent.
        whole, core = regauge(drawn[LAYER], 1.0), download.core.get(LAYER)
        begun = _held(base, self.problem) + _delta(whole, core)
        noise = self._noise(round, client)
        slots = self._slots(client, download, (begun, whole), noise[0])
        start = take(whole, slots[LAYER]) if slots else whole
        ground = begun - _delta(start, core)  # what does not move: the base, and slots not chosen
        end, core = self._trained(client, download, ground, (start, core), noise)
        if download.prune is not None:
            end = pruned({LAYER: start}, {LAYER: end}, download.prune)[LAYER]
        self.private[client.id] = kept(download, base, {LAYER: end})
        up = half(end, download.up) if core is None else Factor(core, core[:0])
        ended = ground + _delta(end, core)
        self.traces[client.id] = Trace(begun, ended, _numbers(download), parameters(up))
        return Upload(client, {LAYER: up}, EXAMPLES, slots=slots)

    def _slots(
        self, client: Client, download: Download, held: tuple[Matrix, Factor], noise: Matrix
    ) -> dict[str, tuple[int, ...]]:
        """The slots that the client chooses, by its first gradient; none where it trains all."""
        if download.select is None:
            return {}
        begun, f = held
        pull = factor_gradients(f, self._pull(begun, client, noise), download.train)
        return chosen({LAYER: f}, {LAYER: pull}, download.select)

    def _trained(
        self,
        client: Client,
        download: Download,
        ground: Matrix,
        start: tuple[Factor, Tensor | None],
        noise: Float[Tensor, "steps out in"],
    ) -> tuple[Factor, Tensor | None]:
        """Local SGD from (factor, core) on top of what the base holds."""
        f, core = start
        for drawn in noise:
            g = self._pull(ground + _delta(f, core), client, drawn)
            if core is not None:
                core = core - self.lr * core_gradient(f, g)
                continue
            d = factor_gradients(f, g, download.train)
            if (prune := download.prune) is not None:
                tail = tail_gradients(f, prune)
                d = Factor(d.a + prune.penalty * tail.a, d.b + prune.penalty * tail.b)
            f = Factor(f.a - self.lr * d.a, f.b - self.lr * d.b, f.scale)
        return f, core

    def _pull(self, w: Matrix, client: Client, noise: Matrix) -> Matrix:
        of = self.problem
        return (w - of.optima[client.id]) * of.covariance + noise

    def _noise(self, round: int, client: Client) -> Float[Tensor, "steps out in"]:
        n = self.setting.size
        shape = (self.setting.steps, n, n)
        return self.setting.noise * normal(shape, self.seed, "noise", round, client.id)


def _held(base: Mapping[str, Update], problem: Problem) -> Matrix:
    return dense(base[LAYER]) if LAYER in base else torch.zeros_like(problem.optimum)


def _delta(f: Factor, core: Tensor | None) -> Matrix:
    return f.delta if core is None else f.scale * f.b @ core @ f.a


def _numbers(download: Download) -> int:
    """How many numbers a download holds."""
    factors = [*download.start.values(), *download.fold.values()]
    return sum(map(parameters, factors)) + sum(c.numel() for c in download.core.values())
