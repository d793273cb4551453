"""Blocks whose activations are not kept for the way back, but computed again there.

Memory of a step: what enters each block, and the activations of one; time: a forward pass more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polyrank.client.model import Workbench
from polyrank.errors import RecipeError


def checkpoint(bench: Workbench) -> None:
    """Let the model do so in training.

    Raises:
        RecipeError: it cannot.
    """
    net = bench.net
    # By its newer name in transformers 5, else by its older one.
    enable = getattr(net, "activation_checkpointing_enable", None)
    try:
        # Of a frozen base no input needs a gradient: the other way would lose those of the factors.
        (enable or net.gradient_checkpointing_enable)({"use_reentrant": False})
    except ValueError as error:
        problem = f"true: {type(net).__name__} cannot compute activations again ({error})"
        raise RecipeError("engine.checkpointing", problem) from error


def checkpoints(bench: Workbench) -> bool:
    """Whether the model does so."""
    return any(module.gradient_checkpointing for module in _able(bench))


@contextmanager
def whole(bench: Workbench) -> Iterator[None]:
    """Keep all activations for a while."""
    before = [(module, module.gradient_checkpointing) for module in _able(bench)]
    for module, _ in before:
        module.gradient_checkpointing = False
    try:
        yield
    finally:
        for module, did in before:
            module.gradient_checkpointing = did


def _able(bench: Workbench) -> list[Any]:
    return [m for m in bench.net.modules() if hasattr(m, "gradient_checkpointing")]
