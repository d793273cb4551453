"""An algorithm with clients that keep private state, and that change what they are sent at random.

No model and no optimizer: what a client ends with is its start and a random step.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from polyrank.algorithm import Algorithm, State
from polyrank.algorithms import about, load
from polyrank.client.private import Private, base_of, kept
from polyrank.client.start import begin
from polyrank.lora.algebra import half, take
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.update import Update, dense
from polyrank.messages import Client, Download, Upload

SHAPES = {"q": (6, 5), "v": (4, 9)}  # (out, in): non-square both ways


class Federation:
    """An algorithm with the ranks it is tried on."""

    def __init__(
        self, name: str, options: dict, ranks: list[int], dtype: torch.dtype = torch.float64
    ) -> None:
        self.name, self.dtype = name, dtype
        self.algorithm: Algorithm = load(name, **options)
        if not about(name).mixed:
            ranks = [max(ranks)] * len(ranks)
        self.clients = [Client(f"c{i}", r) for i, r in enumerate(ranks)]
        self.private: dict[str, Private] = {}
        top = max(ranks)
        self.template: Factors = {
            n: Factor(torch.zeros(top, i, dtype=dtype), torch.zeros(o, top, dtype=dtype))
            for n, (o, i) in SHAPES.items()
        }
        self.start: State = self.algorithm.init(self.template, 0)

    def begin(self, state: State, client: Client) -> dict[str, Factor]:
        """The factors that a client would train, all that it was sent or keeps."""
        download = self.algorithm.send(state, client)
        return begin(download, client, self.template, self.private.get(client.id))

    def trains(self, state: State, client: Client, start: Factors) -> dict[str, int]:
        """How many slots of each layer a client trains: all, or those that it may choose."""
        select = self.algorithm.send(state, client).select
        return {n: f.rank if select is None else min(select, f.rank) for n, f in start.items()}

    def model(self, state: State, client: Client) -> dict[str, Tensor]:
        """The dense update that a client holds before it trains."""
        download, start = self.algorithm.send(state, client), self.begin(state, client)
        base = base_of(download, client, self.private.get(client.id, {}))
        return _models(base, start, dict(download.core))

    def trained(
        self, state: State, client: Client, seed: int, examples: int = 3, change: float = 1.0
    ) -> tuple[Upload, dict[str, Tensor], Private]:
        """(upload, the dense update that the client ends with, what it keeps)."""
        rng = torch.Generator().manual_seed(seed)
        download, start = self.algorithm.send(state, client), self.begin(state, client)

        def moved(t: Tensor, on: bool) -> Tensor:
            step = torch.randn(t.shape, generator=rng, dtype=t.dtype)
            return t + change * step if on else t.clone()

        slots = _chosen(download, start, rng)
        ends = {}
        for n, f in start.items():
            new = Factor(moved(f.a, download.train in ("ab", "a")),
                         moved(f.b, download.train in ("ab", "b")), f.scale)  # fmt: skip
            ends[n] = _only(f, new, slots[n]) if n in slots else new
        cores = {n: moved(c, True) for n, c in download.core.items()}
        private = self.private.get(client.id, {})
        base = base_of(download, client, private)
        sent = {
            n: half(take(f, slots[n]) if n in slots else f, download.up) for n, f in ends.items()
        }
        if cores:
            sent = {n: Factor(c, c[:0]) for n, c in cores.items()}
        upload = Upload(client, sent, examples, slots=slots)
        return upload, _models(base, ends, cores), kept(download, base, ends)

    def upload(
        self, state: State, client: Client, seed: int, examples: int = 3, change: float = 1.0
    ) -> Upload:
        return self.trained(state, client, seed, examples, change)[0]

    def uploads(self, state: State, seed: int = 0) -> list[Upload]:
        return [
            self.upload(state, c, seed + i, examples=2 + 3 * i) for i, c in enumerate(self.clients)
        ]

    def aggregate(self, state: State, uploads: Iterable[Upload]) -> State:
        return self.algorithm.aggregate(state, uploads)[0]

    def round(self, state: State, seed: int) -> State:
        """A whole round of everybody, who keep what they were asked to keep."""
        sent = []
        for i, client in enumerate(self.clients):
            version = self.algorithm.send(state, client).version
            upload, _, private = self.trained(state, client, seed + i, examples=2 + 3 * i)
            sent.append(upload)
            self.private[client.id] = private
            self.clients[i] = replace(client, seen=version)
        return self.aggregate(state, sent)

    def later(self, rounds: int = 2) -> State:
        """A state that has learned something, some rounds on."""
        state = self.start
        for t in range(1, rounds + 1):
            state = self.round(state, seed=10 * t)
        return state

    def delta(self, state: State) -> dict[str, Tensor]:
        """The update that the server holds, dense; of a personal algorithm what it shares, A."""
        held = self.algorithm.read(state)
        assert set(held) == set(SHAPES)
        return {n: f.a if about(self.name).personal else f.delta for n, f in held.items()}

    def expected(self, upload: Upload, model: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the server should hold if this client were alone."""
        if about(self.name).personal:
            return {n: f.a for n, f in upload.factors.items()}
        return model


def _models(
    base: dict[str, Update], factors: dict[str, Factor], cores: dict[str, Tensor]
) -> dict[str, Tensor]:
    deltas = {
        n: f.scale * f.b @ (cores[n] @ f.a if n in cores else f.a) for n, f in factors.items()
    }
    return {n: d + dense(base[n]) if n in base else d for n, d in deltas.items()}


def _chosen(
    download: Download, start: dict[str, Factor], rng: torch.Generator
) -> dict[str, tuple[int, ...]]:
    """Random slots, `select` of each layer, where a client is to choose."""
    if download.select is None:
        return {}
    return {
        n: tuple(sorted(torch.randperm(f.rank, generator=rng)[: download.select].tolist()))
        for n, f in start.items()
    }


def _only(before: Factor, after: Factor, slots: tuple[int, ...]) -> Factor:
    """`after` on the chosen slots, `before` on the others."""
    index = list(slots)
    a, b = before.a.clone(), before.b.clone()
    a[index], b[:, index] = after.a[index], after.b[:, index]
    return Factor(a, b, before.scale)
