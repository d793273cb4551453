"""What a recipe may say of the texts that a language model writes.

The text below a field is its documentation: it is what the JSON schema carries and an editor
shows.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from polyrank.errors import nearest
from polyrank.recipe.parts import Part
from polyrank.recipe.values import Text, conflict

METRICS = ("exact-match", "rouge-l", "choice")


def _metric(value: str) -> str:
    if value not in METRICS:
        raise ValueError(f"is unknown; {nearest(value, METRICS)}")
    return value


def _extractor(value: str) -> str:
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"is not a regular expression ({error})") from None
    if groups != 1:
        raise ValueError("needs one group in brackets, which is the answer")
    return value


class Generation(Part):
    """causal-lm: what the model writes on held-out prompts, before and after the training."""

    metrics: Annotated[
        tuple[Annotated[Text, AfterValidator(_metric)], ...], Field(strict=False)
    ] = ()
    """exact-match (the answers that `answer` finds are the same), rouge-l, choice (the likeliest of
    `choices` is the right one). All are shares of the held-out examples; rouge-l is a mean F1."""
    examples: int = Field(32, ge=1)
    """Measured on the first of the held-out examples, so many."""
    samples: int = Field(3, ge=0)
    """Answers shown in the report."""
    tokens: int = Field(64, ge=1)
    """At most how many tokens of an answer."""
    answer: Annotated[Text, AfterValidator(_extractor)] = r"####\s*(\S+)"
    """A regular expression; its group is the answer in a response, the last one counts. The default
    is how GSM8K marks answers."""
    choices: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """The beginnings of a response that `choice` compares, such as ['The answer is: A', 'The answer
    is: B']."""

    @model_validator(mode="after")
    def _choices_of_choice(self) -> "Generation":
        if "choice" in self.metrics and len(self.choices) < 2:
            raise conflict("choices", "two or more are due for the metric choice")
        return self
