"""What makes a step cost less without a change to a model's names, weights or results."""

from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from polyrank.client import heap
from polyrank.lora import dropout
from polyrank.lora.products import linear


class Linear(nn.Linear):
    """As torch's, by whichever product is quicker."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class Transposed(Conv1D):  # type: ignore[misc]
    """As transformers', by whichever product is quicker."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight.mT, self.bias)


def quicken(net: Any) -> None:
    """Cheap draws of dropout, quick products, and a process that keeps the memory it frees.

    Args:
        net: a transformers model, changed in place.
    """
    heap.keep()
    dropout.quicken(net)
    multiply(net)


def multiply(net: nn.Module) -> None:
    """Let all linear layers of a model multiply so."""
    for module in net.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is Conv1D:
            module.__class__ = Transposed
