"""What the models of a run are judged by: accuracy, or the loss per token of a language model."""

from dataclasses import dataclass
from typing import Any, Literal

Key = Literal["accuracy", "loss"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that says how good a model is.

    Args:
        key: its name in records.
        name: in words.
        higher: whether more is better.
        share: whether it is a share, which is written in percent and compared in points.
    """

    key: Key
    name: str
    higher: bool
    share: bool

    @property
    def title(self) -> str:
        """The name as a heading."""
        return self.name.capitalize()

    @property
    def scale(self) -> float:
        """What a value is multiplied by where it is drawn."""
        return 100.0 if self.share else 1.0

    @property
    def unit(self) -> str:
        """Of a difference."""
        return "points" if self.share else "nats"

    @property
    def axis(self) -> str:
        """The name with the unit of a value."""
        return f"{self.name} ({'%' if self.share else 'nats'})"

    @property
    def limits(self) -> tuple[float, float]:
        """Between which a value lies."""
        return 0.0, 1.0 if self.share else float("inf")

    def of(self, measured: Any) -> float | None:
        """The value in a measurement; None without one."""
        value: float | None = measured[self.key] if measured else None
        return value

    def own(self, outcome: Any) -> float | None:
        """The value of a client's model under its own mix of classes."""
        value: float | None = outcome.get(f"own_{self.key}")
        return value

    def gain(self, before: float, after: float) -> float:
        """By how much `after` is better."""
        return after - before if self.higher else before - after

    def reaches(self, value: float | None, target: float) -> bool:
        """Whether a value is at least as good as the target."""
        return value is not None and self.gain(target, value) >= 0


ACCURACY = Metric("accuracy", "accuracy", higher=True, share=True)
LOSS = Metric("loss", "loss per token", higher=False, share=False)
METRICS: dict[Key, Metric] = {metric.key: metric for metric in (ACCURACY, LOSS)}
