"""The model's and the data's part of a recipe: what is adapted, on which texts, by whom.

The text below a field is its documentation: it is what the JSON schema carries and an editor
shows.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from polyrank.recipe.policies import Ranks
from polyrank.recipe.values import Fields, File, Names, Partition, Text, conflict, keyed


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
    """Adapted layers, by name or by the end of their name ('attention.output.dense'); all-linear is
    every linear layer but the head. The default of causal-lm is [all-linear]."""
    ranks: Ranks = 8
    """One rank for all, a list with one rank per client, a mix such as
    {4: 60%, 16: 30%, 64: 10%}, or a policy that finds the ranks: {policy: budget, mb: 12.5},
    {policy: memory, gib: {0.5: 60%, 2: 40%}} or {policy: quality, low: 5, high: 20}."""
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
    """Train the classification head whole; a language model has none."""

    init_from: File | None = None
    """A PEFT adapter folder to begin with, of this model and of any rank: its update is added to
    the pretrained weights before the first round, its head is where the head starts, and the
    run's adapter holds both. The same folder has to be wherever clients train."""

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
    format: Literal["auto", "instruction", "messages", "prompt", "text"] = "auto"
    """causal-lm: what a row holds. instruction: an instruction, perhaps an input, and a response;
    messages: a chat; prompt: a prompt and its completion; text: plain text. auto sees it from the
    columns."""
    fields: Fields = {}
    """causal-lm: columns that are called otherwise, such as {prompt: question, response: answer}.
    The parts are instruction, input, response, messages, prompt and text."""
    template: Text | None = None
    """causal-lm: a chat template by name: alpaca, chatml, plain or tokenizer (its own). The default
    is plain for prompts and texts, else the tokenizer's own, and alpaca where it has none."""
    category: Text | None = None
    """causal-lm: the column by which dirichlet(...) and shards(...) spread the data, and whose
    values results are told apart by."""
    loss: Literal["response", "all"] = "response"
    """causal-lm: which tokens are learned: those of responses, or the prompts' too."""
    train_examples: int | None = Field(None, ge=1)
    """Use at most this many, drawn by seed."""
    test_examples: int | None = Field(None, ge=1)
    """Evaluate on at most this many."""
    held_out: float = Field(0.2, gt=0, lt=1)
    """Share held out where the data has no test split, and for evaluate_on: validation."""
    evaluate_on: Literal["test", "validation"] = "test"
    """What the server evaluates on. 'validation' is a share (held_out) of the training data, drawn
    by seed and then not trained on: choose hyperparameters with it and leave the test set alone."""
    validation: float = Field(0.0, ge=0, lt=1)
    """Share of the examples that clients measure themselves on and nobody trains on."""
    validation_set: Literal["own", "shared"] = "own"
    """own: that share of each client's own examples (at least one, where it has two or more);
    shared: that share of all, before they are spread, is the same for everybody."""
    clients: int = Field(10, ge=1)
    """Number of clients (ignored for key(...))."""
    partition: Partition = "iid"
    """iid, dirichlet(alpha), shards(n per client), key(column), or mixed(10%, 100, 0.3): a tenth of
    the clients draw their class mix from Dirichlet(100), the others from Dirichlet(0.3).
    key(speaker, 40) keeps the 40 owners with the most examples, and none of the others'."""
    max_length: int = Field(64, ge=2)
    """Tokens kept of each text (default of causal-lm: 256)."""

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
        if (found := keyed(self.partition)) is not None:
            return "key", found[0]
        kind, _, argument = self.partition.partition("(")
        return kind, argument[:-1] or None

    @property
    def owner(self) -> str | None:
        """The column of owners, under key(...)."""
        found = keyed(self.partition)
        return found and found[0]

    @property
    def owners(self) -> int | None:
        """How many owners have a part, under key(column, n); None is all."""
        found = keyed(self.partition)
        return found and found[1]
