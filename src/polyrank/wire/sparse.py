"""The largest numbers of a tensor, and where they are.

    k = max(1, round(share · n)) of n numbers

A place is written as the numbers that were passed over since the last one: a byte, and one more
of 255 for every 255 of them. At a tenth of the numbers that is little more than a byte each.

Stich et al., Sparsified SGD with Memory, NeurIPS 2018, arXiv 1809.07599.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from polyrank.errors import MessageError

FULL = 255


def count(share: float, numbers: int) -> int:
    """k; 0 of none."""
    return max(1, min(numbers, round(share * numbers))) if numbers else 0


def largest(x: Float[Tensor, " n"], k: int) -> Int[Tensor, " k"]:
    """The places of the k numbers of largest size, ascending; NaN is larger than any, and of
    equal ones the first are taken."""
    size = x.abs().numpy()
    least = np.partition(size, len(size) - k)[len(size) - k]  # NaN comes last
    above = np.flatnonzero(~(size <= (np.inf if np.isnan(least) else least)))[:k]
    equal = np.flatnonzero(size == least)[: k - len(above)]
    return torch.from_numpy(np.sort(np.concatenate([above, equal])))


def write(places: Int[Tensor, " k"]) -> tuple[UInt8[Tensor, " bytes"], Int[Tensor, " k"]]:
    """(places as bytes, where each one's bytes end).

    Args:
        places: ascending, at least one.
    """
    passed = torch.diff(places, prepend=places.new_tensor([-1])) - 1
    ends = torch.cumsum(passed // FULL + 1, dim=0)
    data = torch.full((int(ends[-1]),), FULL, dtype=torch.uint8)
    data[ends - 1] = (passed % FULL).to(torch.uint8)
    return data, ends


def read(data: UInt8[Tensor, " bytes"], k: int, numbers: int) -> Int[Tensor, " k"]:
    """The k places, ascending, in a tensor of so many numbers.

    Raises:
        MessageError: the bytes are not so many places, or one of them is beyond the tensor.
    """
    ends = torch.nonzero(data != FULL).flatten()
    places = torch.cumsum(data, dim=0, dtype=torch.int64)[ends] + torch.arange(len(ends))
    if len(ends) != k or (k and (int(ends[-1]) != len(data) - 1 or int(places[-1]) >= numbers)):
        raise MessageError(f"its places are not {k} of {numbers} numbers")
    return places


def scattered(
    values: Float[Tensor, " k"], places: Int[Tensor, " k"], shape: tuple[int, ...]
) -> Tensor:
    """A tensor of zeros with these values at their places."""
    x = values.new_zeros(math.prod(shape))
    x[places] = values
    return x.view(shape)
