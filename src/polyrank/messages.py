"""What crosses the wire, as plain frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from polyrank.lora.factor import Dense, Factors


@dataclass(frozen=True, slots=True)
class Client:
    """What the server knows of a client.

    Args:
        id: its name in the federation.
        rank: the LoRA rank it trains.
        seen: the last fold (a number from 1) that its base is known to hold; 0 is pretrained.
    """

    id: str
    rank: int
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Download:
    """What a client starts from: data, not code, so that every engine can carry it.

    Args:
        start: trainable factors at the client's rank; empty where `fresh` is given.
        fresh: the seed from which the client draws its own start (A random, B zero).
        dense: the tensors trained whole, as the server holds them.
        fold: frozen factors to merge into the base before training.
        since: the fold number that `fold` builds on; 0 means the pretrained base.
        version: the fold number that the base holds after `fold`.
        train: which factors are trained.
    """

    start: Factors = field(default_factory=dict)
    fresh: int | None = None
    dense: Dense = field(default_factory=dict)
    fold: Factors = field(default_factory=dict)
    since: int = 0
    version: int = 0
    train: Literal["ab", "a", "b"] = "ab"


@dataclass(frozen=True, slots=True)
class Upload:
    """What a client sends back after its local training.

    Args:
        client: who, and at which rank.
        factors: trained factors, each with its own scale.
        examples: how many examples the client holds (the data weight's numerator).
        dense: the tensors trained whole.
        metrics: local figures (mean training loss, steps); reported, never fed back.
    """

    client: Client
    factors: Factors
    examples: int
    dense: Dense = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
