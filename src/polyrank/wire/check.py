"""What is refused: an update that was not asked for, does not fit or is not finite; and, by a node,
a download for another model."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from polyrank.errors import MessageError, line
from polyrank.lora.algebra import norm
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.messages import Client, Download, Sides, Upload

SAFE = 1e9  # numbers up to it can be squared and summed in float32
EXAMPLES = 2**40  # more than any client has


class Terms(NamedTuple):
    """What a client was asked for: all that its upload is checked against.

    Args:
        client: who was asked, with its rank.
        version: of its private state after the download.
        up: what of each factor is to come back.
        ranks: by layer, the rank that was sent.
        layers: one factor per adapted layer, for shapes and dtype.
        fewer: whether the client may cut its rank.
        select: slots over all layers that the client may choose; None where it may not.
    """

    client: Client
    version: int
    up: Sides
    ranks: Mapping[str, int]
    layers: Factors
    fewer: bool
    select: int | None


def terms(sent: Download, client: Client, template: Factors) -> Terms:
    """What the client must answer to this download."""
    ranks = {n: sent.start[n].rank if n in sent.start else client.rank for n in template}
    select = None if sent.select is None else sent.select * len(template)
    return Terms(client, sent.version, sent.up, ranks, template, sent.prune is not None, select)


def most_bytes(asked: Terms, dense: Dense) -> int:
    """Bytes that an answer has at most: twice its numbers, since a codec adds places and scales,
    and a header of names.

    Args:
        asked: what was asked for.
        dense: the tensors trained whole.
    """
    of = asked.layers.items()
    numbers = sum(asked.ranks[n] * (sum(f.shape) + asked.ranks[n]) * f.a.itemsize for n, f in of)
    names = sum(len(name) + 200 for name in (*asked.layers, *dense))
    return 2 * (numbers + sum(t.nbytes for t in dense.values())) + 4 * names + 2**16


def fitting(sent: Download, client: Client, layers: Factors, dense: Dense) -> None:
    """A client's part: what it was sent is for the model that it has.

    Args:
        sent: what arrived.
        client: at the rank that it was told.
        layers: one factor per adapted layer of its model, for shapes and dtype.
        dense: the tensors that it trains whole.

    Raises:
        MessageError: other layers or shapes, or a rank that the layers do not allow.
    """
    most = min(min(f.shape) for f in layers.values())
    if not 1 <= client.rank <= most:
        raise MessageError(f"it was asked for rank {client.rank}; its layers allow 1 to {most}")
    named = {*sent.start, *sent.fold, *sent.core}
    if strange := sorted(named - set(layers)):
        raise MessageError(f"its model has no layer {line(strange[0])}")
    parts = [(n, f, True) for n, f in sent.start.items()]
    for name, f, sides in [*parts, *((n, f, False) for n, f in sent.fold.items())]:
        like, (out, width) = layers[name], f.shape
        whole = (out, width) == like.shape
        half = sides and out in (0, like.shape[0]) and width in (0, like.shape[1])
        if not (whole or (half and f.rank <= max(client.rank, f.a.numel(), f.b.numel()))):
            raise MessageError(f"{name}: was sent shape {f.shape}, not {like.shape}")
        if {f.a.dtype, f.b.dtype} != {like.a.dtype}:
            raise MessageError(f"{name}: was sent {f.a.dtype}, not {like.a.dtype}")
    for name, t in sent.core.items():
        if t.ndim != 2 or t.shape[0] != t.shape[1]:
            raise MessageError(f"{name}: was sent a core of shape {tuple(t.shape)}")
    shapes = {n: (t.shape, t.dtype) for n, t in sent.dense.items()}
    if shapes != {n: (t.shape, t.dtype) for n, t in dense.items()}:
        raise MessageError("was sent other tensors to train whole than its model has")


def refusal(upload: Upload, asked: Terms, dense: Dense) -> str | None:
    """Why this upload must not touch the state; None if nothing is wrong with it.

    Args:
        upload: what arrived.
        asked: what was asked for.
        dense: the tensors trained whole, as they were sent.
    """
    client = asked.client
    if (upload.client.id, upload.client.rank) != (client.id, client.rank):
        return f"answered as client {upload.client.id!r} of rank {upload.client.rank}"
    plausible = 1 <= upload.examples < EXAMPLES
    if not plausible or client.examples not in (0, upload.examples):
        stated = f", not the {client.examples} it stated" if client.examples else ""
        return f"claims {upload.examples} training examples{stated}"
    if reason := _wrong_layers(upload, asked):
        return reason
    if set(upload.dense) != set(dense):
        return f"dense tensors differ: {_difference(upload.dense, dense)}"
    for name, f in upload.factors.items():
        slots = upload.slots.get(name)
        if reason := _wrong_rank(f, name, slots, asked) or _misfit(f, name, asked):
            return f"{name}: {reason}"
    for name, t in upload.dense.items():
        if (t.shape, t.dtype) != (dense[name].shape, dense[name].dtype):
            return f"{name}: {tuple(t.shape)} {t.dtype}, not {tuple(dense[name].shape)}"
        if not math.isfinite(_top(t)):
            return f"{name}: holds NaN or infinity"
    return None


def _wrong_layers(upload: Upload, asked: Terms) -> str | None:
    if asked.select is None:
        if set(upload.factors) != set(asked.layers):
            return f"layers differ: {_difference(upload.factors, asked.layers)}"
        return "names slots that it was not asked to choose" if upload.slots else None
    if not set(upload.factors) <= set(upload.slots) or not set(upload.slots) <= set(asked.layers):
        return f"layers differ: {_difference(upload.factors, asked.layers)}"
    count = sum(f.rank for f in upload.factors.values())
    return f"sent {count} slots, not at most {asked.select}" if count > asked.select else None


def _wrong_rank(f: Factor, name: str, slots: Collection[int] | None, asked: Terms) -> str | None:
    most = asked.ranks[name]
    if slots is not None:
        good = len(slots) == f.rank == len(set(slots)) and all(0 <= j < most for j in slots)
        return None if good else f"slots {sorted(slots)} do not fit rank {f.rank} of {most}"
    if f.rank == most or (asked.fewer and 1 <= f.rank < most):
        return None
    return f"rank {f.rank}, not {most}"


def _misfit(f: Factor, name: str, asked: Terms) -> str | None:
    like = asked.layers[name]
    out, width = like.shape
    expected = {"ab": (out, width), "a": (0, width), "b": (out, 0), "core": (0, f.rank)}[asked.up]
    if f.shape != expected:
        return f"shape {f.shape}, not {expected}"
    if {f.a.dtype, f.b.dtype} != {like.a.dtype}:
        return f"dtype {f.a.dtype}, not {like.a.dtype}"
    tops = [_top(t) for t in (f.a, f.b)]
    if not all(map(math.isfinite, (*tops, f.scale))):
        return "holds NaN or infinity"
    if f.scale == 0 or abs(f.scale) * tops[1] > torch.finfo(f.b.dtype).max:
        return f"has scale {f.scale:g}"
    most = abs(f.scale) * tops[0] * tops[1] * f.rank * (out * width) ** 0.5  # the norm, or more
    if asked.up == "ab" and max(*tops, most) > SAFE and not math.isfinite(norm(f)):
        return "its update overflows"
    return None


def _top(t: Tensor) -> float:
    """The largest magnitude; NaN where there is one."""
    if not t.numel():
        return 0.0
    low, high = torch.aminmax(t)
    return float(torch.maximum(-low, high))


def _difference(got: Mapping[str, object], expected: Mapping[str, object]) -> str:
    missing, extra = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    parts = [f"missing {', '.join(missing)}"] if missing else []
    return "; ".join([*parts, *([f"unknown {', '.join(extra)}"] if extra else [])])
