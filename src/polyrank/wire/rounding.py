"""Numbers written with fewer bits: rows of float32 as bf16, or as whole multiples of a row's scale.

    s = max |x| / top,   q = ⌊x/s + u⌋,  u ~ U[0, 1)   ⇒   E[s q] = x,  |s q − x| < s

top is 127 for int8, whose scale is a row's, and 7 for int4, whose scale is that of a block of at
most 128 numbers. Both are unbiased. bf16 is rounded to nearest, so it is not: of each number at
most the 256th part is lost, the same for everybody who rounds it.

Alistarh et al., QSGD, NeurIPS 2017, arXiv 1610.02132 (stochastic rounding by a vector's size);
Dettmers et al., QLoRA, NeurIPS 2023, arXiv 2305.14314 (scales by block).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int8
from torch import Generator, Tensor

from polyrank.errors import MessageError
from polyrank.recipe.codecs import Numbers

TOP: Mapping[Numbers, int] = {"int8": 127, "int4": 7}
BLOCK = 128  # numbers that share a scale, at most; of int4
AT_ONCE = 2**18  # numbers that are rounded while they are in the processor's cache
DTYPES: Mapping[Numbers, torch.dtype] = {
    "fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8, "int4": torch.uint8,
}  # fmt: skip
Parts = Mapping[str, Tensor]  # "numbers", and "scales" where there are any


def write(x: Float[Tensor, "rows width"], numbers: Numbers, draw: Generator) -> Parts:
    """The rows as they travel. Rows with NaN or infinity come back as such.

    Args:
        x: float32, at least one number.
        numbers: what each is written as.
        draw: u.
    """
    if numbers not in TOP:
        return {"numbers": x.to(DTYPES[numbers])}
    blocks, size = _blocks(x.shape[1], numbers)
    if blocks * size > x.shape[1]:
        x = torch.nn.functional.pad(x, (0, blocks * size - x.shape[1]))
    rows = torch.split(x.reshape(-1, size), max(1, AT_ONCE // size))
    codes, scales = map(
        torch.cat, zip(*(_rounded(r, TOP[numbers], draw) for r in rows), strict=True)
    )
    if numbers == "int4":
        low, high = (codes + 8).view(torch.uint8).view(-1, 2).unbind(1)
        codes = low | high << 4
    return {"numbers": codes.view(len(x), -1), "scales": scales.view(len(x), blocks)}


def read(parts: Parts, rows: int, width: int, numbers: Numbers) -> Float[Tensor, "rows width"]:
    """The rows, as float32, that `write` made the parts of.

    Raises:
        MessageError: the parts are not those of so many rows.
    """
    blocks, size = _blocks(width, numbers)
    each = blocks * size // (2 if numbers == "int4" else 1)
    expected = {"numbers": ((rows, each), DTYPES[numbers])}
    if numbers in TOP:
        expected["scales"] = ((rows, blocks), torch.float32)
    if {n: (tuple(t.shape), t.dtype) for n, t in parts.items()} != expected:
        raise MessageError(f"its numbers are not {rows} rows of {width} as {numbers}")
    codes = parts["numbers"]
    if numbers not in TOP:
        return codes.float()
    if numbers == "int4":
        codes = torch.stack([codes & 15, codes >> 4], dim=-1).view(torch.int8).sub_(8)
    x = codes.view(rows, blocks, size) * parts["scales"][..., None]
    return x.view(rows, -1)[:, :width]


def written(width: int, numbers: Numbers) -> int:
    """Bytes of a row."""
    blocks, size = _blocks(width, numbers)
    scales = 4 * blocks if numbers in TOP else 0
    return (size * blocks // 2 if numbers == "int4" else width * DTYPES[numbers].itemsize) + scales


def _rounded(
    x: Float[Tensor, "rows width"], top: int, draw: Generator
) -> tuple[Int8[Tensor, "rows width"], Float[Tensor, " rows"]]:
    low, high = torch.aminmax(x, dim=1)
    scales = torch.maximum(high, -low) / top
    whole = torch.empty(x.shape).uniform_(generator=draw)
    whole.addcdiv_(x, torch.where(scales > 0, scales, 1)[:, None])  # a row of zeros has scale 0
    whole.floor_().clamp_(-top, top)
    if not scales.isfinite().all():
        whole.nan_to_num_(nan=1.0)  # any number times a scale that is not finite
    return whole.to(torch.int8), scales


def _blocks(width: int, numbers: Numbers) -> tuple[int, int]:
    """(blocks in a row, numbers in a block): nearly equal blocks, of even size."""
    if numbers != "int4":
        return 1, width
    blocks = -(-width // BLOCK)
    return blocks, -(-width // (2 * blocks)) * 2
