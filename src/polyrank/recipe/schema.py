"""What a recipe may say: every key, its type, its default and its limits.

A field's description is its documentation: it is what `polyrank recipe --schema` prints and
what an editor shows.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Rank = Annotated[int, Field(ge=1)]
PARTITION = r"^(iid|dirichlet\((\d*\.?\d+)\)|shards\(([1-9]\d*)\)|key\(([^()]+)\))$"


class Part(BaseModel):
    """A frozen piece of a recipe; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Part):
    """Which layers are adapted, at which ranks and scale."""

    targets: tuple[str, ...] = Field(
        ("query", "value"), min_length=1,
        description="Adapted layers, by name or by the end of their name ('attention.output.dense').",
    )
    ranks: Rank | tuple[Rank, ...] | dict[Rank, str | float] = Field(
        8, description="One rank for all, a list with one rank per client, or a mix "
        "such as {4: 60%, 16: 30%, 64: 10%}.",
    )
    scale: float | None = Field(
        None, gt=0, description="One scale s for the whole federation (alpha = s·r at each "
        "client). The default is 1.0, unless alpha is given.",
    )
    alpha: float | None = Field(
        None, gt=0, description="PEFT's lora_alpha: each client's scale is alpha/r instead.",
    )
    rslora: bool = Field(False, description="With alpha: the scale is alpha/√r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before A.")
    train_head: bool = Field(True, description="Train the classification head whole.")

    @model_validator(mode="after")
    def _one_scale(self) -> "Lora":
        if self.alpha is not None and self.scale is not None:
            raise ValueError("alpha and scale are two ways to say the same; keep one")
        if self.rslora and self.alpha is None:
            raise ValueError("rslora needs alpha")
        return self

    def scale_at(self, rank: int) -> float:
        """s_i of a client of this rank: α/r, α/√r, or the federation's s."""
        if self.alpha is None:
            return 1.0 if self.scale is None else self.scale
        return self.alpha / (rank**0.5 if self.rslora else rank)


class Data(Part):
    """Labelled texts, and how they are spread over the clients."""

    name: str | None = Field(
        None, description="'docstrings' (the embedded data) or a data set on the Hugging Face hub.",
    )
    subset: str | None = Field(None, description="The configuration of a hub data set.")
    path: Path | None = Field(
        None, description="A CSV/TSV/JSONL file (also .gz), or a folder that holds train* and test* files.",
    )
    test: Path | None = Field(None, description="The held-out file, where `path` is one file.")
    text: str = Field("text", description="The column with the text.")
    label: str = Field("label", description="The column with the label.")
    train_examples: int | None = Field(None, ge=1, description="Use at most this many, drawn by seed.")
    test_examples: int | None = Field(None, ge=1, description="Evaluate on at most this many.")
    held_out: float = Field(
        0.2, gt=0, lt=1, description="Share held out where the data has no test split.",
    )
    clients: int = Field(10, ge=1, description="Number of clients (ignored for key(...)).")
    partition: str = Field(
        "iid", pattern=PARTITION,
        description="iid, dirichlet(alpha), shards(n per client) or key(column).",
    )
    max_length: int = Field(64, ge=2, description="Tokens kept of each text.")

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if (self.name is None) == (self.path is None):
            raise ValueError("give either name (docstrings, a hub data set) or path (local files)")
        return self

    @property
    def partition_kind(self) -> tuple[str, str | None]:
        """('dirichlet', '0.5'), ('key', 'speaker'), ('iid', None)…"""
        kind, _, argument = self.partition.partition("(")
        return kind, argument[:-1] or None


class Algorithm(BaseModel):
    """The algorithm's name; every other key is an option of its own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Local(Part):
    """What a client does in one round."""

    epochs: int = Field(1, ge=1, description="Passes over its own data, unless steps is given.")
    steps: int | None = Field(None, ge=1, description="Optimizer steps instead of epochs.")
    batch: int = Field(16, ge=1, description="Examples in a batch.")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0, description="Learning rate of the factors.")
    head_lr: float | None = Field(None, gt=0, description="Learning rate of the head (default: lr).")
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.0, ge=0, lt=1, description="Momentum of sgd.")
    clip: float | None = Field(1.0, gt=0, description="Largest gradient norm; null is no limit.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="How the learning rate falls over the rounds.",
    )
    warmup: int = Field(0, ge=0, description="Rounds over which the learning rate rises.")


class Evaluation(Part):
    """When and on what the global model is measured."""

    every: int = Field(1, ge=1, description="Evaluate after every n-th round (and the last).")
    batch: int = Field(64, ge=1)
    target: float | None = Field(
        None, gt=0, lt=1, description="Accuracy for 'rounds to a target'.",
    )


class Output(Part):
    dir: Path = Field(Path("runs"), description="The folder that holds run folders.")


class Recipe(Part):
    """One federated fine-tuning experiment."""

    name: str = Field("run", pattern=r"^[\w.,=+@-]+$", description="Name of the run folder.")
    model: str = Field(
        "minilm", description="'minilm' (embedded), or a Hugging Face model by name or local path.",
    )
    data: Data = Data(name="docstrings")
    lora: Lora = Lora()
    algorithm: Algorithm = Algorithm(name="replicate")
    rounds: int = Field(10, ge=1)
    participation: float = Field(1.0, gt=0, le=1, description="Share of the clients in each round.")
    local: Local = Local()
    evaluation: Evaluation = Evaluation()
    output: Output = Output()
    seed: int = Field(0, ge=0)

    @field_validator("data", mode="before")
    @classmethod
    def _data_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("algorithm", mode="before")
    @classmethod
    def _algorithm_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _a_folder_name(cls, value: str) -> str:
        if re.fullmatch(r"\.+", value):
            raise ValueError("is not a name for a folder")
        return value
