"""The head's linear layers, with a weight of its own for every client on the bench."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class HeadLayer(nn.Module):
    """Weight and bias of one linear layer for every client on the bench: W_i x + b_i.

    Without any, the module's own weight serves all rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.active: tuple[int, ...] = (0,)  # of which clients, one after another, a batch has rows

    def place(self, weights: Iterable[Tensor], biases: Iterable[Tensor]) -> None:
        """Replace what was there by copies of these; no biases where the layer has none."""
        self.weights, self.biases = (
            nn.ParameterList([nn.Parameter(t.detach().clone()) for t in some])
            for some in (weights, biases)
        )

    def own(self, client: int) -> dict[str, nn.Parameter]:
        """One client's weight and bias; none where the module's own serves all."""
        both = {"weight": self.weights, "bias": self.biases}
        return {name: some[client] for name, some in both.items() if len(some)}

    def forward(self, x: Float[Tensor, "rows *places in"]) -> Float[Tensor, "rows *places out"]:
        each = x.reshape(len(self.active), -1, x.shape[-1])
        out = each @ torch.stack([self.weights[i] for i in self.active]).mT
        if len(self.biases):
            out = out + torch.stack([self.biases[i] for i in self.active])[:, None]
        return out.view(*x.shape[:-1], -1)


def attach(module: nn.Linear) -> HeadLayer:
    """Let a linear layer serve several clients, through its child `clients`."""
    module.clients = HeadLayer()
    module.register_forward_hook(_replace)
    return module.clients


def _replace(module: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
    own: Tensor = module.clients(args[0]) if len(module.clients.weights) else out
    return own
