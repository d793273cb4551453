"""Tensors as fewer bytes, and back: the largest numbers only, each written with fewer bits.

    tensors --rows--> matrices --top-k--> what is kept of them --rounding--> parts by width

A row is what shares a scale: of A a row, of B a column, so that both are a slot's. Rows of one
width lie in one tensor of the message, whatever tensors they are of: few names and few operations.
Only float32 is encoded; whole numbers and other kinds travel as they are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from polyrank.errors import MessageError
from polyrank.recipe.codecs import Codec
from polyrank.wire import rounding, sparse

Tensors = Mapping[str, Tensor]
Layout = Sequence[tuple[str, tuple[int, ...]]]  # names and shapes, in the order of their rows
MOST, DIMENSIONS = 2**31, 8  # of a tensor's shape: each of at most so many


class Coded(NamedTuple):
    """Tensors as they travel.

    Args:
        parts: by name: as they are, or "<width>/numbers", "<width>/scales" and "places".
        layout: which tensors the parts hold.
        bytes: of the parts, by the name of the tensor that they are of.
    """

    parts: dict[str, Tensor]
    layout: Layout
    bytes: dict[str, int]


def encode(tensors: Tensors, how: Codec, draw: Generator) -> Coded:
    """The tensors as they travel.

    Args:
        tensors: by name; those that end in "/b" hold a slot in each column.
        how: top-k and the kind of number.
        draw: for stochastic rounding.
    """
    able = {n: t for n, t in tensors.items() if t.dtype == torch.float32}
    others = {n: t for n, t in tensors.items() if n not in able}
    layout = sorted(((n, tuple(t.shape)) for n, t in able.items()), key=lambda e: _order(e, how))
    rows = {n: _rows(n, able[n]) for n, _ in layout}
    bytes = {n: t.nbytes for n, t in others.items()}
    parts = dict(others)
    if how.share is not None:
        rows, parts["places"], extra = _kept(rows, how.share)
        bytes |= extra
    for width, names in _by_width(layout, how):
        some = [rows[n] for n in names]
        x = some[0] if len(some) == 1 else torch.cat(some)
        for part, t in rounding.write(x, how.numbers, draw).items():
            parts[f"{width}/{part}"] = t
        one = rounding.written(width, how.numbers)
        bytes |= {n: bytes.get(n, 0) + len(rows[n]) * one for n in names}
    return Coded(parts, layout, bytes)


def decode(parts: Tensors, layout: Any, how: Codec, most: int | None) -> dict[str, Tensor]:
    """The tensors that `encode` made the parts of; with top-k, the others of their numbers are 0.

    Args:
        parts: what arrived.
        layout: names and shapes, as they arrived.
        how: what they must be encoded with.
        most: how many numbers are decoded at most; None where every number travels, so that the
            message itself is the limit.

    Raises:
        MessageError: the parts are not those of such a layout, or too many.
    """
    shapes = _checked(layout)
    total = sum(map(math.prod, shapes.values()))
    if most is not None and total > most:
        raise MessageError(f"it stands for {total} numbers, more than the {most} that were sent")
    coded = [(n, s) for n, s in shapes.items()]
    own = {f"{w}/{p}" for w, _ in _by_width(coded, how) for p in ("numbers", "scales")}
    own |= set() if how.share is None else {"places"}
    found = {n: t for n, t in parts.items() if n not in own}
    if clash := sorted(found.keys() & shapes.keys()):
        raise MessageError(f"{clash[0]} arrived twice")
    rows: dict[str, Tensor] = {}
    for width, names in _by_width(coded, how):
        counts = [_matrix(n, shapes[n], how)[0] for n in names]
        mine = {p: parts[f"{width}/{p}"] for p in ("numbers", "scales") if f"{width}/{p}" in parts}
        x = rounding.read(mine, sum(counts), width, how.numbers)
        rows |= dict(zip(names, torch.split(x, counts), strict=True))
    if how.share is not None:
        rows = _spread(rows, parts.get("places"), shapes, how.share)
    return found | {n: _shaped(n, rows.get(n), shape) for n, shape in coded}


def _kept(rows: Tensors, share: float) -> tuple[dict[str, Tensor], Tensor, dict[str, int]]:
    """(the largest numbers of each, where they are as bytes, bytes of that by name)."""
    full = {n: x.reshape(-1) for n, x in rows.items() if x.numel()}
    if not full:
        return {}, torch.zeros(0, dtype=torch.uint8), {}
    kept, places, before = {}, [], 0
    for name, x in full.items():
        at = sparse.largest(x, sparse.count(share, len(x)))
        kept[name] = x[at][None]
        places.append(at + before)
        before += len(x)
    data, ends = sparse.write(torch.cat(places))
    last = torch.tensor([len(at) for at in places]).cumsum(0) - 1
    spent = torch.diff(ends[last], prepend=ends.new_zeros(1)).tolist()
    return kept, data, dict(zip(full, spent, strict=True))


def _spread(
    rows: Tensors, data: Tensor | None, shapes: Mapping[str, tuple[int, ...]], share: float
) -> dict[str, Tensor]:
    """Tensors with what was kept of them, and zeros."""
    total = sum(map(math.prod, shapes.values()))
    counts = [sparse.count(share, math.prod(s)) for s in shapes.values()]
    if data is None or data.dtype != torch.uint8 or data.dim() != 1:
        raise MessageError("it does not say which numbers it holds")
    places = sparse.read(data, sum(counts), total)
    found, before = {}, 0
    for (name, shape), at in zip(shapes.items(), torch.split(places, counts), strict=True):
        n, own = math.prod(shape), at - before
        if len(own) and (int(own[0]) < 0 or int(own[-1]) >= n):
            raise MessageError(f"{name}: holds numbers at places of another tensor")
        before += n
        if n:
            found[name] = sparse.scattered(rows[name][0], own, _matrix(name, shape, Codec()))
    return found


def _by_width(layout: Layout, how: Codec) -> Iterator[tuple[int, list[str]]]:
    """The names of what has rows of one width, in the order of the layout."""
    widths: dict[int, list[str]] = {}
    for name, shape in layout:
        rows, width = _matrix(name, shape, how)
        if rows * width:
            widths.setdefault(width, []).append(name)
    return iter(widths.items())


def _order(entry: tuple[str, tuple[int, ...]], how: Codec) -> tuple[int, str]:
    return _matrix(*entry, how)[1], entry[0]


def _matrix(name: str, shape: tuple[int, ...], how: Codec) -> tuple[int, int]:
    """(rows, width) of what travels of a tensor."""
    if how.share is not None:
        return 1, sparse.count(how.share, math.prod(shape))
    if len(shape) < 2:
        return 1, math.prod(shape)
    if _transposed(name, len(shape)):
        return shape[1], shape[0]
    return shape[0], math.prod(shape[1:])


def _rows(name: str, t: Tensor) -> Tensor:
    return (t.T if _transposed(name, t.dim()) else t).reshape(
        _matrix(name, tuple(t.shape), Codec())
    )


def _shaped(name: str, rows: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """The tensor itself, row by row in memory; without rows it is empty."""
    if rows is None:
        return torch.zeros(shape)
    return (
        rows.T.contiguous() if _transposed(name, len(shape)) else rows.reshape(shape).contiguous()
    )


def _transposed(name: str, dimensions: int) -> bool:
    return dimensions == 2 and name.endswith("/b")


def _checked(layout: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by name, from what arrived.

    Raises:
        MessageError: it is no list of names and shapes.
    """
    good = isinstance(layout, list) and all(
        isinstance(e, list) and len(e) == 2 and isinstance(e[0], str) and _is_shape(e[1])
        for e in layout
    )
    shapes = {name: tuple(shape) for name, shape in layout} if good else {}
    if not good or len(shapes) != len(layout):
        raise MessageError("its layout is no list of names, each with a shape")
    return shapes


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= DIMENSIONS
        and all(type(d) is int and 0 <= d < MOST for d in value)
        and math.prod(d or 1 for d in value) < MOST**2
    )
