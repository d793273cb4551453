"""An algorithm is five pure functions over explicit state; the engine does the rest.

    init(template, seed)        -> State           first state, from the layers' shapes
    send(state, client)         -> Download        what this client, at its rank, starts from
    add(state, partial, upload) -> Partial         one more upload; the first comes to {}
    update(state, partial)      -> (State, Info)   the next state, from the round's uploads
    read(state)                 -> Factors         what to evaluate and export

A partial aggregate is a mapping, nested or not, of things that can be added (lora/sums.py and
slots.py, numbers, tuples). So uploads are taken as they come, in memory that does not grow with
their number, and those of several servers are put together by `merged`, in any grouping.

Tensors that are trained whole (a classification head) never reach an algorithm: the server
averages them by data weight, the same way under every algorithm.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from polyrank.lora.factor import Factor, Factors
from polyrank.messages import Client, Download, Upload

State = Any  # a frozen dataclass of tensors, factors and numbers, one type per algorithm
Partial = Mapping[Any, Any]
Info = Mapping[str, Any]  # diagnostics as JSON: reported, never fed back


class Init(Protocol):
    def __call__(self, template: Factors, seed: int) -> State: ...


class Send(Protocol):
    def __call__(self, state: State, client: Client) -> Download: ...


class Add(Protocol):
    def __call__(self, state: State, partial: Partial, upload: Upload) -> Partial: ...


class Update(Protocol):
    def __call__(self, state: State, partial: Partial) -> tuple[State, Info]: ...


class Read(Protocol):
    def __call__(self, state: State) -> Factors: ...


class About(NamedTuple):
    """What a user wants to know of an algorithm before choosing it.

    Args:
        paper: title, venue and arXiv number.
        up: parameters per client and layer in an upload.
        down: parameters per client and layer in a download.
        server: what the server keeps between rounds.
        mixed: whether clients may have different ranks.
        exact: whether the server's update is the weighted mean of the clients' updates.
        weights: the aggregation weights that the paper uses (a recipe's `aggregation.weights`).
        personal: whether every client ends with a model of its own, of which the server holds
            a part only.
        rounds: why it works in rounds only, and cannot make one of finished adapters; empty where
            it can.
    """

    paper: str
    up: str
    down: str
    server: str
    mixed: bool
    exact: bool
    weights: str = "data"
    personal: bool = False
    rounds: str = ""


Held = Mapping[str, tuple[Factor, ...]]  # by layer, the terms of the update a client holds


class Holds(Protocol):
    def __call__(self, state: State, client: Client) -> Held: ...


class Algorithm(NamedTuple):
    """The five functions; and, where the server knows it cheaper than from a download for a client
    that holds nothing, what a client starts from (for diagnostics and weights)."""

    init: Init
    send: Send
    add: Add
    update: Update
    read: Read
    held: Holds | None = None

    def aggregate(self, state: State, uploads: Iterable[Upload]) -> tuple[State, Info]:
        """The next state from all uploads of a round, each read once."""
        partial: Partial = {}
        for upload in uploads:
            partial = self.add(state, partial, upload)
            del upload  # or it were in memory beside the next one
        return self.update(state, partial)


def merged(one: Partial, other: Partial) -> Partial:
    """Two partial aggregates as one.  Associative; {} changes nothing."""
    both = dict(one)
    for key, value in other.items():
        if key not in both:
            both[key] = value
        elif isinstance(value, Mapping):
            both[key] = merged(both[key], value)
        else:
            both[key] = both[key] + value
    return both
