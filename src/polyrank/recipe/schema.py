"""What a recipe may say: every key, its type, its default and its limits.

The text below a field is its documentation: it is what the JSON schema carries and an editor
shows.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from polyrank.recipe.codecs import Down, Up
from polyrank.recipe.generation import Generation
from polyrank.recipe.parts import Data, Lora, Part
from polyrank.recipe.policies import Memory
from polyrank.recipe.tasks import Task, filled, strays
from polyrank.recipe.values import (
    File,
    FolderName,
    Text,
    Trackers,
    Weighting,
    conflict,
    one_memory_each,
    one_rank_each,
)

__all__ = [
    "Aggregation", "Algorithm", "Data", "Engine", "Evaluation", "Generation", "Local", "Lora",
    "Output", "Recipe", "Wire",
]  # fmt: skip


class Algorithm(BaseModel):
    """The algorithm's name; every other key is an option of its own."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, use_attribute_docstrings=True
    )
    name: Text
    """Which algorithm; its file name."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Local(Part):
    """What a client does in one round."""

    epochs: int = Field(1, ge=1)
    """Passes over its own data, unless steps is given."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps instead of epochs."""
    batch: int = Field(16, ge=1)
    """Examples in a batch."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Takes the local steps."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate of the factors."""
    head_lr: float | None = Field(None, gt=0)
    """Learning rate of the head (default: lr)."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimizer."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum of sgd."""
    prox: float = Field(0.0, ge=0)
    """Weight mu of the proximal term mu/2·‖θ − θ_start‖² (FedProx)."""
    clip: float | None = Field(1.0, gt=0)
    """Largest gradient norm; null is no limit."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls over the rounds."""
    warmup: int = Field(0, ge=0)
    """Rounds over which the learning rate rises."""

    @model_validator(mode="after")
    def _momentum_of_sgd(self) -> "Local":
        if self.momentum and self.optimizer != "sgd":
            raise conflict("momentum", f"{self.momentum:g} needs local.optimizer sgd")
        return self


class Aggregation(Part):
    """How much each client counts, and how the server steps: options of every algorithm."""

    weights: Weighting | None = None
    """data, uniform, norm, fedhl(kappa), regularised(tau) or coherent(c). The default is the
    algorithm's own, in most cases data."""
    per_layer: bool = False
    """Weigh each layer by its own truncation error instead of by their sum."""
    optimizer: Literal["none", "momentum", "adam"] = "none"
    """A server optimizer on the round's change of the factors, or of ΔW where that is kept."""
    lr: float = Field(1.0, gt=0)
    """Server learning rate, with an optimizer."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """Decay of adam's second moment."""
    eps: float = Field(1e-3, gt=0)
    """What adam adds to the root of the second moment."""
    max_norm: float | None = Field(None, ge=1)
    """Leave an upload out that has moved more than so many times the median of the round before,
    its factors or its tensors trained whole. Of the first round, the median of those that came
    before it, from the fourth on. null leaves out none; norms are recorded in either case."""


class Evaluation(Part):
    """When and on what the global model is measured."""

    every: int = Field(1, ge=1)
    """Evaluate after every n-th round (and the last)."""
    batch: int = Field(64, ge=1)
    """Examples in a batch (default of causal-lm: 16)."""
    target: float | None = Field(None, gt=0)
    """Accuracy (of causal-lm: loss per token) for 'rounds to a target'."""
    probe: int = Field(1, ge=0)
    """Clients of the highest ranks whose accuracy (of causal-lm: loss per token) is measured each
    round just before and just after the aggregation."""
    probe_examples: int = Field(128, ge=1)
    """Measure them on the first of the held-out examples, so many."""
    clients: int | None = Field(100, ge=1)
    """At most how many clients' own models are measured: after the last round, and of personal
    algorithms whenever the model is. Of more, so many are drawn by seed; null is all."""


class Engine(Part):
    """How the clients of a simulation are run."""

    group: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """At most how many clients train at once on the base that they share: auto, 1 or more. The
    results are the same but for rounding, and for what dropout draws. auto takes as many as fill a
    step with tokens and fit into the free memory; a run that is resumed keeps its number."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the frozen base is kept and computed in. Factors, head, loss and optimizer are float32
    in either; in bfloat16 results differ by its rounding."""
    base: Literal["full", "int8", "int4"] = "full"
    """What the weights of the base's linear layers are kept in: full (as dtype says), int8, or
    int4 (NF4), by the library bitsandbytes (`pip install 'polyrank[quantised]'`). All arithmetic
    is in dtype; outputs and embeddings are as dtype says."""
    checkpointing: bool = False
    """Compute each block's activations again on the way back instead of keeping them: less memory,
    more time, the same results."""


class Wire(Part):
    """What messages are encoded with."""

    up: Up = "fp32"
    """Uploads: fp32, bf16, int8, int4, or topk(0.1), or topk(0.1)+int8. All but fp32 send a
    client's change from what it was sent. int8 and int4 round without bias; topk sends the share
    of the numbers that changed most, and what it leaves out is added to the client's next upload
    (error feedback)."""
    down: Down = "fp32"
    """Downloads: fp32, bf16, int8 or int4."""


class Output(Part):
    """Where results go."""

    dir: File = Path("runs")
    """The folder that holds run folders."""


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Recipe(Part):
    """One federated fine-tuning experiment."""

    name: FolderName = "run"
    """Name of the run folder."""
    task: Task = "classification"
    """What the model is trained for: to classify texts, or to write them (causal-lm)."""
    model: Text = "minilm"
    """'minilm' (embedded), or a Hugging Face model by name or local path. The default of causal-lm
    is 'docstrings-llama', which `polyrank pretrain` makes."""
    cache: Literal["off", "block", "first-token"] = "off"
    """Compute frozen activations below the adapted layers once: up to the first adapted block, or
    of the first token up to the last block's feed-forward part. The frozen part then runs without
    dropout."""
    data: Annotated[Data, BeforeValidator(_by_name, json_schema_input_type=str | Data)] = Data()
    """Labelled texts and their spread over the clients; a name alone is data.name."""
    lora: Lora = Lora()
    algorithm: Annotated[
        Algorithm, BeforeValidator(_by_name, json_schema_input_type=str | Algorithm)
    ] = Algorithm(name="replicate")
    """The algorithm with its options; a name alone is the algorithm with its defaults."""
    aggregation: Aggregation = Aggregation()
    rounds: int = Field(10, ge=1)
    """Rounds of federated training."""
    participation: float = Field(1.0, gt=0, le=1)
    """Share of the clients in each round."""
    local: Local = Local()
    evaluation: Evaluation = Evaluation()
    generation: Generation = Generation()
    engine: Engine = Engine()
    wire: Wire = Wire()
    output: Output = Output()
    track: Trackers = ()
    """Also write what is recorded to tensorboard, wandb or mlflow: one, or a list
    (docs/tracking.md)."""
    seed: int = Field(0, ge=0)
    """The root of every random number."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_task(cls, values: Any) -> Any:
        return filled(values)

    @model_validator(mode="after")
    def _keys_of_task(self) -> "Recipe":
        if (mistake := strays(self)) is not None:
            raise mistake
        return self

    @model_validator(mode="after")
    def _cache_of_full_base(self) -> "Recipe":
        if self.cache != "off" and self.engine.base != "full":
            raise conflict("cache", f"{self.cache} needs engine.base full, not {self.engine.base}")
        return self

    @model_validator(mode="after")
    def _one_rank_each(self) -> "Recipe":
        ranks, clients = self.lora.ranks, self.data.clients
        each = ranks.gib if isinstance(ranks, Memory) else ranks
        keyed = self.data.partition_kind[0] == "key"
        if keyed or not isinstance(each, tuple) or len(each) == clients:
            return self
        if isinstance(ranks, Memory):
            raise conflict("lora.ranks.gib", one_memory_each(len(each), clients))
        raise conflict("lora.ranks", one_rank_each(len(each), clients))
