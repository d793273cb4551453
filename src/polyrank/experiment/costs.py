"""What a client's messages weigh under an algorithm: made and packed, not computed.

Of the second round, after a first in which everybody took part and moved at random.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from polyrank import algorithms
from polyrank.algorithm import Algorithm, State
from polyrank.client import model
from polyrank.client.private import Private, kept
from polyrank.client.sending import Asked, send
from polyrank.client.start import begin
from polyrank.experiment.setup import prepare, roster
from polyrank.lora.algebra import half, take
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.messages import Client, Download, Upload
from polyrank.recipe import Recipe
from polyrank.recipe.codecs import codec
from polyrank.recipe.policies import Quality
from polyrank.recipe.schema import Wire
from polyrank.seeds import derive
from polyrank.wire.coded import decode_download, encode

PLAIN = Wire()


class Cost(NamedTuple):
    """Bytes of one client's messages in a round, by its rank."""

    up: Mapping[int, int]
    down: Mapping[int, int]


def of_recipe(recipe: Recipe) -> dict[str, Cost | None]:
    """Every algorithm's cost for the recipe's model and ranks; None where they must be equal.

    Raises:
        PolyrankError: whatever is wrong with the recipe, the data or the model.
    """
    setup = prepare(recipe)
    clients, _ = roster(recipe, setup)
    ranks, policy = {c.rank for c in clients}, recipe.lora.ranks
    template = model.template(
        setup.bench, policy.high if isinstance(policy, Quality) else max(ranks)
    )
    equal = len(ranks) == 1
    found: dict[str, Cost | None] = {}
    seed, wire = recipe.seed, recipe.wire
    for name in algorithms.names():
        own = recipe.algorithm.options if name == recipe.algorithm.name else {}
        algorithm = algorithms.load(name, **own)
        able = equal or algorithms.about(name).mixed
        found[name] = cost(algorithm, clients, template, setup.dense, seed, wire) if able else None
    return found


def cost(
    algorithm: Algorithm, clients: Sequence[Client], template: Factors, dense: Dense, seed: int,
    wire: Wire = PLAIN,
) -> Cost:  # fmt: skip
    """What one client of each rank is sent and sends in the second round.

    Args:
        algorithm: with its options.
        clients: everybody.
        template: one factor per adapted layer, at the largest rank.
        dense: the tensors trained whole, which travel both ways.
        seed: of the algorithm's state and the random moves.
        wire: what messages are encoded with.
    """
    begun = algorithm.init(template, seed)
    after: dict[str, tuple[Client, Private]] = {}

    def first() -> Iterator[Upload]:
        for client in clients:
            download, upload, private = _turn(algorithm, begun, client, template, {}, seed)
            after[client.id] = replace(client, seen=download.version), private
            yield upload

    state, _ = algorithm.aggregate(begun, first())
    up, down = {}, {}
    for client, private in {c.rank: after[c.id] for c in clients}.values():
        download, upload, _ = _turn(algorithm, state, client, template, private, seed)
        draw = derive(seed, "costs", client.id, "codec")
        data, _ = encode(replace(download, dense=dense), codec(wire.down), draw)
        arrived = decode_download(data, codec(wire.down))
        asked = Asked(arrived, client, template, codec(wire.up))
        sent, _, _ = send(replace(upload, dense=dense), asked, private, {}, draw)
        up[client.rank], down[client.rank] = len(sent), len(data)
    return Cost(up, down)


def _turn(
    algorithm: Algorithm, state: State, client: Client, template: Factors, private: Private,
    seed: int,
) -> tuple[Download, Upload, Private]:  # fmt: skip
    """One client's part in a round, with random steps in the place of training."""
    download = algorithm.send(state, client)
    ends = {
        name: Factor(_moved(f.a, seed, client, name, "a"), _moved(f.b, seed, client, name, "b"),
                     f.scale)
        for name, f in begin(download, client, template, private).items()
    }  # fmt: skip
    chosen = None if download.select is None else range(download.select)
    slots = {} if chosen is None else dict.fromkeys(ends, tuple(chosen))
    sent = {n: half(f if chosen is None else take(f, chosen), download.up) for n, f in ends.items()}
    if download.core:
        cores = {n: _moved(c, seed, client, n, "core") for n, c in download.core.items()}
        sent = {n: Factor(c, c[:0]) for n, c in cores.items()}
    return download, Upload(client, sent, client.examples, slots=slots), kept(download, {}, ends)


def _moved(t: Tensor, seed: int, client: Client, *what: str) -> Tensor:
    return t + torch.randn(t.shape, generator=derive(seed, "costs", client.id, *what))
