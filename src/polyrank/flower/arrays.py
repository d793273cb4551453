"""Adapters as the arrays of an ordinary Flower app: PEFT's names, every client at its own rank.

…<layer>.lora_A.weight (r, in), …<layer>.lora_B.weight (out, r); all else is trained whole.
"""

import math
import re

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from polyrank.errors import MessageError, line
from polyrank.lora.factor import Adapter, Factor

# A file of numpy's, version 1 or 2 by the length of its header: bool, and numbers as they are here.
_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|\x02\x00....)\{'descr': '([<|](?:b1|[iu][1248]|f[248]))', "
    rb"'fortran_order': (True|False), 'shape': \(((?:\d{1,10}, ?)*(?:\d{1,10})?)\), \} *\n",
    re.DOTALL,
)
_DIMENSIONS, _MOST = 8, 2**60  # of a shape: also of one of no numbers
_SIDE = re.compile(r"(.+)\.lora_([AB])(\.\w+)?\.weight")  # PEFT's model has the adapter's name too


def taken(record: ArrayRecord, scale: float) -> Adapter:
    """The adapter in a record.

    Args:
        record: as of PEFT's state dict.
        scale: α/r that it is trained with.

    Raises:
        MessageError: an array that is not numpy's, a side without the other, or other shapes.
    """
    tensors = {name: _tensor(name, array) for name, array in record.items()}
    found = {name: _SIDE.fullmatch(name) for name in tensors}
    sides: dict[str, dict[str, Tensor]] = {}
    for name, match in found.items():
        if match:
            sides.setdefault(match[1], {})[match[2]] = tensors[name]
    factors = {layer: _factor(layer, own, scale) for layer, own in sorted(sides.items())}
    return Adapter(factors, {n: t for n, t in tensors.items() if not found[n]})


def packed(adapter: Adapter, like: ArrayRecord, scale: float) -> ArrayRecord:
    """The adapter as a record.

    Args:
        adapter: any ranks, any scales.
        like: a record of the same layers, whose names are used, in its order.
        scale: α/r that the receiver trains with; B takes the ratio to the factor's own.
    """
    arrays = {}
    for name in like:
        match = _SIDE.fullmatch(name)
        if match is None:
            tensor = adapter.dense[name]
        else:
            f = adapter.factors[match[1]]
            tensor = f.a if match[2] == "A" else f.b * (f.scale / scale)
        arrays[name] = Array(tensor.detach().cpu().contiguous().numpy())
    return ArrayRecord(arrays)


def _factor(layer: str, own: dict[str, Tensor], scale: float) -> Factor:
    if set(own) != {"A", "B"}:
        raise MessageError(f"{layer} has no lora_{'A' if 'B' in own else 'B'}")
    a, b = own["A"], own["B"]
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != len(a):
        raise MessageError(f"{layer}: lora_A is {tuple(a.shape)}, lora_B {tuple(b.shape)}")
    return Factor(a, b, scale)


def _tensor(name: str, array: Array) -> Tensor:
    """The numbers of an array as `numpy.save` writes it, and only as it does.

    `numpy.load` also takes archives, makes room for what a header promises, and reads Python.
    """
    if array.stype != "numpy.ndarray":
        raise MessageError(f"{name} is an array of {line(array.stype)!r}, not numpy.ndarray")
    header = _HEADER.match(array.data)
    if header is None:
        raise MessageError(f"{name} is not an array of numbers as numpy.save writes it")
    dtype = np.dtype(header[1].decode())
    shape, data = tuple(map(int, header[3].replace(b",", b" ").split())), array.data[header.end() :]
    big = len(shape) > _DIMENSIONS or math.prod(d or 1 for d in shape) >= _MOST
    if big or math.prod(shape) * dtype.itemsize != len(data):
        raise MessageError(f"{name}: {len(data)} bytes are not {shape} of {dtype}")
    found = np.ndarray(shape, dtype, data, order="F" if header[2] == b"True" else "C")
    return torch.from_numpy(found.copy(order="C"))
