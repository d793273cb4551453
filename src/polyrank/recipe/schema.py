"""What a recipe may say: every key, its type, its default and its limits.

The text below a field is its documentation: it is what the JSON schema carries and an editor
shows.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from polyrank.recipe.values import (
    File,
    FolderName,
    Names,
    Partition,
    Ranks,
    Text,
    conflict,
    one_rank_each,
)


class Part(BaseModel):
    """A frozen piece of a recipe; a key it does not know is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        field_title_generator=lambda name, field: name,
    )


class Lora(Part):
    """Which layers are adapted, at which ranks and scale."""

    targets: Names = ("query", "value")
    """Adapted layers, by name or by the end of their name ('attention.output.dense')."""
    ranks: Ranks = 8
    """One rank for all, a list with one rank per client, or a mix such as
    {4: 60%, 16: 30%, 64: 10%}."""
    scale: float | None = Field(None, gt=0)
    """One scale s for the whole federation (alpha = s·r at each client). The default is 1.0,
    unless alpha is given."""
    alpha: float | None = Field(None, gt=0)
    """PEFT's lora_alpha: each client's scale is alpha/r instead."""
    rslora: bool = False
    """With alpha: the scale is alpha/√r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before A."""
    train_head: bool = True
    """Train the classification head whole."""

    @model_validator(mode="after")
    def _one_scale(self) -> "Lora":
        if self.alpha is not None and self.scale is not None:
            raise conflict("scale", f"{self.scale:g} beside alpha {self.alpha:g}: keep one of them")
        if self.rslora and self.alpha is None:
            raise conflict("rslora", "true needs lora.alpha")
        return self

    def scale_at(self, rank: int) -> float:
        """s_i of a client of this rank: α/r, α/√r, or the federation's s."""
        if self.alpha is None:
            return 1.0 if self.scale is None else self.scale
        return self.alpha / (rank**0.5 if self.rslora else rank)


class Data(Part):
    """Labelled texts, and how they are spread over the clients."""

    name: Text | None = None
    """'docstrings' (the embedded data, and the default where no path is given) or a data set on
    the Hugging Face hub."""
    subset: Text | None = None
    """The configuration of a hub data set."""
    path: File | None = None
    """A CSV/TSV/JSONL file (also .gz), or a folder that holds train* and test* files."""
    test: File | None = None
    """The held-out file, where `path` is one file."""
    text: Text = "text"
    """The column with the text."""
    label: Text = "label"
    """The column with the label."""
    train_examples: int | None = Field(None, ge=1)
    """Use at most this many, drawn by seed."""
    test_examples: int | None = Field(None, ge=1)
    """Evaluate on at most this many."""
    held_out: float = Field(0.2, gt=0, lt=1)
    """Share held out where the data has no test split."""
    clients: int = Field(10, ge=1)
    """Number of clients (ignored for key(...))."""
    partition: Partition = "iid"
    """iid, dirichlet(alpha), shards(n per client) or key(column)."""
    max_length: int = Field(64, ge=2)
    """Tokens kept of each text."""

    @model_validator(mode="before")
    @classmethod
    def _embedded_by_default(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("name") is None and value.get("path") is None:
            return value | {"name": "docstrings"}
        return value

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if self.name is not None and self.path is not None:
            raise conflict("path", f"'{self.path}' beside name {self.name!r}: keep one of them")
        if self.test is not None and self.path is None:
            raise conflict("test", f"'{self.test}' needs data.path, the file to train on")
        if self.subset is not None and self.name is None:
            raise conflict("subset", f"{self.subset!r} needs data.name, a hub data set")
        return self

    @property
    def partition_kind(self) -> tuple[str, str | None]:
        """('dirichlet', '0.5'), ('key', 'speaker'), ('iid', None)…"""
        kind, _, argument = self.partition.partition("(")
        return kind, argument[:-1] or None


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


class Evaluation(Part):
    """When and on what the global model is measured."""

    every: int = Field(1, ge=1)
    """Evaluate after every n-th round (and the last)."""
    batch: int = Field(64, ge=1)
    """Examples in a batch."""
    target: float | None = Field(None, gt=0, lt=1)
    """Accuracy for 'rounds to a target'."""


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
    model: Text = "minilm"
    """'minilm' (embedded), or a Hugging Face model by name or local path."""
    data: Annotated[Data, BeforeValidator(_by_name, json_schema_input_type=str | Data)] = Data()
    """Labelled texts and their spread over the clients; a name alone is data.name."""
    lora: Lora = Lora()
    algorithm: Annotated[
        Algorithm, BeforeValidator(_by_name, json_schema_input_type=str | Algorithm)
    ] = Algorithm(name="replicate")
    """The algorithm with its options; a name alone is the algorithm with its defaults."""
    rounds: int = Field(10, ge=1)
    """Rounds of federated training."""
    participation: float = Field(1.0, gt=0, le=1)
    """Share of the clients in each round."""
    local: Local = Local()
    evaluation: Evaluation = Evaluation()
    output: Output = Output()
    seed: int = Field(0, ge=0)
    """The root of every random number."""

    @model_validator(mode="after")
    def _one_rank_each(self) -> "Recipe":
        ranks, clients = self.lora.ranks, self.data.clients
        if self.data.partition_kind[0] == "key" or not isinstance(ranks, tuple):
            return self
        if len(ranks) != clients:
            raise conflict("lora.ranks", one_rank_each(len(ranks), clients))
        return self
