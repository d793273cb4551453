"""Who holds which examples: every client's indices, end to end in one tensor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Parts(Mapping[str, Tensor]):
    """By client id the indices that it holds, as a view: nothing is made per client.

    Args:
        places: each client's place in `starts`.
        flat: the indices of all, one client's after another's.
        starts: where each client's begin in `flat`, and the end.
    """

    places: Mapping[str, int]
    flat: Int64[Tensor, " held"]
    starts: Int64[Tensor, " starts"]

    def __getitem__(self, id: str) -> Int64[Tensor, " own"]:
        place = self.places[id]
        return self.flat[int(self.starts[place]) : int(self.starts[place + 1])]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def sizes(self) -> dict[str, int]:
        """How many indices each client holds."""
        return dict(zip(self.places, self.starts.diff().tolist(), strict=True))


def joined(ids: Sequence[str], held: Sequence[Sequence[int] | Int64[np.ndarray, " _"]]) -> Parts:
    """What clients of these ids hold, in their order."""
    arrays = [np.asarray(own, np.int64) for own in held]
    flat = np.concatenate([np.empty(0, np.int64), *arrays])
    starts = torch.tensor([0, *map(len, arrays)]).cumsum(0)
    return Parts({id: i for i, id in enumerate(ids)}, torch.from_numpy(flat), starts)
