"""Who takes part in a round: a pure function of (seed, round)."""

from collections.abc import Sequence

import torch

from polyrank.messages import Client
from polyrank.seeds import derive


def sample(clients: Sequence[Client], share: float, seed: int, round: int) -> list[Client]:
    """A uniform draw of max(1, round(share·K)) of K clients, in the federation's order."""
    count = max(1, round_half_up(share * len(clients)))
    order = torch.randperm(len(clients), generator=derive(seed, "sample", round))
    return [clients[i] for i in sorted(order[:count].tolist())]


def drawn(clients: Sequence[Client], most: int | None, seed: int, round: int) -> list[Client]:
    """Whose own models are measured after a round: a uniform draw of `most`, or all if fewer."""
    if most is None or len(clients) <= most:
        return list(clients)
    order = torch.randperm(len(clients), generator=derive(seed, "measured", round))
    return [clients[i] for i in sorted(order[:most].tolist())]


def round_half_up(x: float) -> int:
    return int(x + 0.5)
