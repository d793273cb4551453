"""What lora.ranks may be: ranks as they are, or a policy that finds them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from polyrank.errors import nearest
from polyrank.recipe.values import Mix, Rank, Share, Whole, conflict

STRICT = ConfigDict(
    extra="forbid",
    frozen=True,
    strict=True,
    allow_inf_nan=False,
    use_attribute_docstrings=True,
    field_title_generator=lambda name, field: name,
)


def _form(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "list"
    if isinstance(value, BaseModel):
        return str(getattr(value, "policy", "mix"))
    return str(value.get("policy", "mix")) if isinstance(value, Mapping) else "one"


def _known(value: Any) -> Any:
    if isinstance(value, Mapping) and "policy" in value and value["policy"] not in NAMES:
        name = str(value["policy"])
        raise conflict("policy", f"{name!r} is unknown; {nearest(name, NAMES)}")
    return value


Gib = Annotated[float, Field(strict=True, gt=0)]
GibMix = Annotated[
    dict[Gib, Share],
    Whole,
    Field(json_schema_extra={"propertyNames": {"pattern": r"^(?=[0.]*[1-9])\d*\.?\d+(e-?\d+)?$"}}),
]
Gibs = Annotated[
    Annotated[Gib, Tag("one")]
    | Annotated[tuple[Gib, ...], Field(strict=False, min_length=1), Tag("list")]
    | Annotated[GibMix, Tag("mix")],
    Discriminator(_form),
]


class Budget(BaseModel):
    """The ranks that a round's upload budget pays for, the more data the higher."""

    model_config = STRICT
    policy: Literal["budget"]
    """Which policy: budget, memory or quality."""
    mb: float = Field(gt=0)
    """What all clients together may send in one round, in MB (10^6 bytes) of factors, as wire.up
    encodes them."""
    most: int = Field(64, ge=1)
    """The highest rank."""


class Memory(BaseModel):
    """The highest rank with which a training step fits into a client's memory."""

    model_config = STRICT
    policy: Literal["memory"]
    """Which policy: budget, memory or quality."""
    gib: Gibs
    """Memory in GiB: one number for all, a list with one per client, or a mix such as
    {0.5: 60%, 2: 40%}."""
    most: int = Field(64, ge=1)
    """The highest rank."""


class Quality(BaseModel):
    """A low rank for all, then a high one for those whose validation loss is lowest."""

    model_config = STRICT
    policy: Literal["quality"]
    """Which policy: budget, memory or quality."""
    low: int = Field(5, ge=1)
    """Everyone's rank at first."""
    high: int = Field(20, ge=2)
    """The rank of those that are promoted."""
    share: Annotated[Share, Field(gt=0)] = 0.1
    """The share of the clients that is promoted, at least one of them."""
    warmup: int = Field(1, ge=1)
    """Rounds before that."""

    @model_validator(mode="after")
    def _low_below_high(self) -> "Quality":
        if self.high <= self.low:
            raise conflict("high", f"{self.high} must be above lora.ranks.low {self.low}")
        return self


POLICIES: Mapping[str, type[BaseModel]] = {"budget": Budget, "memory": Memory, "quality": Quality}
NAMES = tuple(POLICIES)

Ranks = Annotated[
    Annotated[Rank, Tag("one")]
    | Annotated[tuple[Rank, ...], Field(strict=False, min_length=1), Tag("list")]
    | Annotated[Mix, Tag("mix")]
    | Annotated[Budget, Tag("budget")]
    | Annotated[Memory, Tag("memory")]
    | Annotated[Quality, Tag("quality")],
    Discriminator(_form),
    BeforeValidator(_known),
]
