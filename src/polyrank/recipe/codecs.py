"""What messages may be encoded with, as a recipe says it.

fp32 | bf16 | int8 | int4          how each number is written
topk(0.1) | topk(0.1)+int8         only a tenth of the numbers, those of largest size
"""

import re
from typing import Annotated, Literal, NamedTuple, cast

from pydantic import AfterValidator, Field

from polyrank.errors import nearest

Numbers = Literal["fp32", "bf16", "int8", "int4"]
BYTES: dict[Numbers, float] = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
NUMBERS = "|".join(BYTES)
CODEC = rf"(?:topk\((\d*\.?\d+) ?(%?)\)(?:\+({NUMBERS}))?|({NUMBERS}))"
FORMS = (*BYTES, "topk(0.1)", "topk(0.1)+int8")


class Codec(NamedTuple):
    """How the numbers of a message are written.

    Args:
        numbers: what each is written as.
        share: top-k: the share of a tensor's numbers that travels, those of largest size; None is
            all of them.
    """

    numbers: Numbers = "fp32"
    share: float | None = None

    @property
    def plain(self) -> bool:
        """Whether messages are the tensors as they are."""
        return self == Codec()

    @property
    def bytes(self) -> float:
        """Bytes per number, about: without scales, names and shapes."""
        each = BYTES[self.numbers]
        return each if self.share is None else self.share * (each + 1)

    def __str__(self) -> str:
        return self.numbers if self.share is None else f"topk({self.share:g})+{self.numbers}"


def codec(text: str) -> Codec:
    """The codec that a recipe names.

    Raises:
        ValueError: it names none; the words go after the value.
    """
    match = re.fullmatch(CODEC, text)
    if match is None:
        first, _, last = text.partition("+")
        swapped = re.fullmatch(CODEC, f"{last}+{first}")
        hint = f"did you mean '{last}+{first}'?" if swapped else nearest(text, FORMS)
        raise ValueError(f"is not a codec; {hint}")
    share, percent, kept, whole = match.groups()
    if whole:
        return Codec(cast(Numbers, whole))
    part = float(share + ("e-2" if percent else ""))
    if not 0 < part <= 1:
        raise ValueError("needs a share above 0 and at most 1")
    return Codec(cast(Numbers, kept or "fp32"), part)


def _known(value: str) -> str:
    codec(value)
    return value


def _dense(value: str) -> str:
    if codec(value).share is not None:
        raise ValueError(
            "is for uploads: of a download all numbers are needed, or the server had to remember "
            "for each client what it left out; use bf16, int8 or int4"
        )
    return value


def _pattern(regex: str) -> dict[str, object]:
    return {"pattern": f"^{regex}$"}


Up = Annotated[str, AfterValidator(_known), Field(json_schema_extra=_pattern(CODEC))]
Down = Annotated[str, AfterValidator(_dense), Field(json_schema_extra=_pattern(f"({NUMBERS})"))]
