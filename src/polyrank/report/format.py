"""What a line of records.jsonl holds: one JSON object of kind run, round or final.

A number that is not finite (a loss that diverged) is null: JSON has no other word for it.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

# A newer version may record more than this one knows.
open_ended = with_config(ConfigDict(extra="allow", strict=True))


@open_ended
class Bytes(TypedDict):
    """Bytes of one message as sent; total = factors + dense + framing."""

    total: int
    factors: int
    dense: int


@open_ended
class Reason(TypedDict):
    """A client that took no part, and why."""

    id: str
    reason: str


@open_ended
class Measured(TypedDict):
    """Loss (nats) and accuracy (0 to 1) on the test set; of a language model per token, and
    then its perplexity e^loss too."""

    loss: float | None
    accuracy: float | None
    perplexity: NotRequired[float | None]


@open_ended
class Holdings(TypedDict):
    """A client before training; `labels` counts its examples by class."""

    id: str
    rank: int
    examples: int
    labels: list[int]


@open_ended
class Moved(TypedDict):
    """Norms of an upload's change: over its factors, and over the tensors trained whole."""

    factors: float | None
    dense: float | None


@open_ended
class Trained(TypedDict):
    """A client's part in one round; `weight` is its aggregation weight, `seconds` wall time.

    `metrics` is what it measured itself: loss and accuracy on its validation examples. `alone` says
    why it was not trained with others at once, where that was tried and failed.
    """

    id: str
    rank: int
    examples: int
    loss: float | None
    seconds: float
    alone: NotRequired[str | None]
    weight: NotRequired[float | None]
    norm: NotRequired[Moved | None]
    metrics: NotRequired[dict[str, float | None]]
    up: Bytes
    down: Bytes


@open_ended
class Spectrum(TypedDict):
    """Singular values of the global update, mean over layers, largest first."""

    values: list[float | None]
    effective_rank: float | None
    layers: NotRequired[dict[str, float | None]]


@open_ended
class Outcome(TypedDict):
    """A client's model after training, on the whole test set and, in the run's metric, under its
    own label mix."""

    id: str
    rank: int
    accuracy: float | None
    own_accuracy: NotRequired[float | None]
    own_loss: NotRequired[float | None]
    loss: float | None


@open_ended
class Run(TypedDict):
    """The first line: what ran, on what; `metric` is what models are judged by, else accuracy."""

    kind: Literal["run"]
    name: str
    label: str
    seed: int
    recipe: dict[str, Any]
    versions: dict[str, Any]
    machine: dict[str, Any]
    data: dict[str, Any]
    init_from: NotRequired[dict[str, Any]]
    metric: NotRequired[Literal["accuracy", "loss"]]
    classes: list[str]
    clients: list[Holdings]
    idle: NotRequired[list[Reason]]
    parameters: NotRequired[dict[str, Any]]


@open_ended
class LeftOut(TypedDict):
    """A client whose update did not count in a round, why, and what it cost nevertheless."""

    id: str
    reason: str
    norm: NotRequired[Moved | None]
    up: Bytes
    down: Bytes


@open_ended
class Probe(TypedDict):
    """A client's model in the run's metric, just before a round's aggregation and just after."""

    id: str
    rank: int
    before: float | None
    after: float | None


@open_ended
class Sample(TypedDict):
    """What a language model answered to a held-out prompt."""

    prompt: str
    reference: str
    answer: str


@open_ended
class Generated(TypedDict):
    """What a language model wrote: shares of `examples` by metric, and some of its answers."""

    metrics: dict[str, float]
    examples: int
    samples: list[Sample]


@open_ended
class Round(TypedDict):
    """A line per round; round 0 is the model before training. `unchanged`: all clients failed."""

    kind: Literal["round"]
    round: int
    clients: list[Trained]
    left_out: NotRequired[list[LeftOut]]
    test: Measured | None
    info: NotRequired[dict[str, Any]]
    spectrum: NotRequired[Spectrum | None]
    probes: NotRequired[list[Probe]]
    generated: NotRequired[Generated | None]
    seconds: float
    unchanged: NotRequired[bool]


@open_ended
class Final(TypedDict):
    """The last line of a run that came to its end; `of`: from how many `clients` were drawn."""

    kind: Literal["final"]
    test: Measured | None
    clients: list[Outcome]
    of: NotRequired[int]
    generated: NotRequired[Generated | None]
    seconds: float


Record = Run | Round | Final
RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])
