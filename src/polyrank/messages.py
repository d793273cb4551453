"""What crosses the wire, as plain frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from polyrank.lora.factor import Dense, Factors

Sides = Literal["ab", "a", "b", "core"]  # what of a factor is trained, or travels
Kept = Literal["", "a", "b", "ab"]


@dataclass(frozen=True, slots=True)
class Client:
    """What the server knows of a client.

    Args:
        id: its name in the federation.
        rank: the LoRA rank it trains.
        seen: the version of the last download that it is known to hold; 0 is the pretrained base.
        examples: how many examples it holds, as it said when it joined; 0 is unknown.
    """

    id: str
    rank: int
    seen: int = 0
    examples: int = 0


@dataclass(frozen=True, slots=True)
class Prune:
    """Self-pruning: λ‖B[:, k:]‖·‖A[k:]‖ in the loss, k = max(1, ⌊γr⌋); cut to k if the tail shrank.

    Args:
        keep: γ, the share of the rank that a cut leaves.
        penalty: λ, the weight of the tail in the local loss.
    """

    keep: float
    penalty: float


@dataclass(frozen=True, slots=True)
class Download:
    """What a client starts from: data, not code, so that every engine can carry it.

    A side of a factor that does not travel has width 0: Factor(a[:, :0], b) carries B alone.
    The client takes it from what it kept, else draws it: rows of A from `fresh`, B = 0.

    Args:
        start: the factors that training starts from; a layer that is not given is drawn.
        fresh: the seed of the rows of A that are drawn.
        core: by layer a square matrix C, trained between the frozen sides: ΔW = s·B C A.
        dense: the tensors trained whole, as the server holds them.
        fold: frozen factors to merge into the base before training.
        since: the version of the client's private state (folds, kept sides) that this builds on;
            0 means none, the pretrained base.
        version: the version of the private state after this download.
        train: what is trained.
        send: what is uploaded, where that is not what is trained.
        keep: the sides that the client keeps for itself after training.
        absorb: after the round the client's base holds what `start` was (not what it became).
        prune: self-pruning, if any.
        select: train only this many slots per layer on average, those that matter most to the
            client's data, and freeze the others; None trains all that was sent.
    """

    start: Factors = field(default_factory=dict)
    fresh: int | None = None
    core: Dense = field(default_factory=dict)
    dense: Dense = field(default_factory=dict)
    fold: Factors = field(default_factory=dict)
    since: int = 0
    version: int = 0
    train: Sides = "ab"
    send: Sides | None = None
    keep: Kept = ""
    absorb: bool = False
    prune: Prune | None = None
    select: int | None = None

    @property
    def up(self) -> Sides:
        """What of each factor is uploaded."""
        return self.send or self.train


@dataclass(frozen=True, slots=True)
class Upload:
    """What a client sends back after its local training.

    A side that does not travel has width 0, as in a download. A core C (r×r) travels as
    Factor(C, no B).

    Args:
        client: who, and at which rank.
        factors: trained factors, each with its own scale.
        examples: how many examples the client holds (the data weight's numerator).
        dense: the tensors trained whole.
        metrics: local figures (mean training loss, steps); reported, never fed back.
        slots: by layer, which of the server's slots these are; the leading ones where not given.
        weight: its aggregation weight, set by the server; None is by data.
        by_layer: aggregation weights of single layers, set by the server.
    """

    client: Client
    factors: Factors
    examples: int
    dense: Dense = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    slots: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    weight: float | None = None
    by_layer: Mapping[str, float] = field(default_factory=dict)

    def counts(self, layer: str) -> float:
        """The weight, up to a factor common to the round, with which a layer of it counts."""
        overall = float(self.examples) if self.weight is None else self.weight
        return self.by_layer.get(layer, overall)
