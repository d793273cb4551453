"""The kinds of value a recipe is made of, each with the words for a wrong one."""

import math
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from polyrank.errors import nearest

FOLDER_NAME = r"[\w.,=+@-]+"
PERCENT = r"(\d+\.?\d*|\.\d+) ?%"
PARTITION = r"iid|dirichlet\((\d*\.?\d+([eE][-+]?\d+)?)\)|shards\([1-9]\d*\)|key\([^()]+\)"
SHARE = "a share, such as 60% or 0.6"
FORMS = ("iid", "dirichlet(0.5)", "shards(2)", "key(column)")


def conflict(key: str, problem: str) -> PydanticCustomError:
    """A mistake between keys; `key` is the one to change, relative to the part that checks."""
    return PydanticCustomError("conflict", "{problem}", {"key": key, "problem": problem})


def one_rank_each(ranks: int, clients: int) -> str:
    """The words for a list of ranks that does not fit the number of clients."""
    return f"{ranks} ranks for {clients} clients; a list has one rank for each client"


def _folder_name(value: str) -> str:
    if not re.fullmatch(FOLDER_NAME, value) or not value.strip("."):
        raise ValueError("is not a name for a folder (letters, digits and . , = + @ - _)")
    return value


def _partition(value: str) -> str:
    match = re.fullmatch(PARTITION, value)
    if match is None:
        raise ValueError(f"is not a partition; {nearest(value, FORMS)}")
    if match[1] and not 0 < float(match[1]) < math.inf:
        raise ValueError("needs an alpha above 0")
    return value


def _filled(value: Any) -> Any:
    if value == "":
        raise ValueError("is empty")
    return value


def _share(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(PERCENT, value)
    if match is None or float(match[1]) > 100:
        raise ValueError(f"is not {SHARE}")
    return float(match[1] + "e-2")  # not /100, so that 33.4% is exactly 0.334


def _whole(mix: dict[int, float]) -> dict[int, float]:
    total = math.fsum(mix.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"adds up to {100 * total:.6g}%, not 100%")
    return mix


def _form(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "list"
    return "mix" if isinstance(value, dict) else "rank"


Text = Annotated[str, Field(min_length=1)]
File = Annotated[Path, Field(strict=False), BeforeValidator(_filled)]
FolderName = Annotated[
    str, AfterValidator(_folder_name), Field(json_schema_extra={"pattern": f"^{FOLDER_NAME}$"})
]
Partition = Annotated[
    str, AfterValidator(_partition), Field(json_schema_extra={"pattern": f"^({PARTITION})$"})
]
Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]

Rank = Annotated[int, Field(strict=True, ge=1)]
_Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
_Percent = Annotated[str, Field(pattern=f"^{PERCENT}$")]
Share = Annotated[_Fraction, BeforeValidator(_share, json_schema_input_type=_Percent | _Fraction)]
Mix = Annotated[
    dict[Rank, Share],
    AfterValidator(_whole),
    Field(json_schema_extra={"propertyNames": {"pattern": "^[1-9][0-9]*$"}}),
]
Ranks = Annotated[
    Annotated[Rank, Tag("rank")]
    | Annotated[tuple[Rank, ...], Field(strict=False, min_length=1), Tag("list")]
    | Annotated[Mix, Tag("mix")],
    Discriminator(_form),
]
