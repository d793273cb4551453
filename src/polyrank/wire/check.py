"""What a server refuses: an update that was not asked for, does not fit, or is not finite."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from polyrank.lora.algebra import norm
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.messages import Client, Upload


def refusal(upload: Upload, client: Client, template: Factors, dense: Dense) -> str | None:
    """Why this upload must not touch the state; None if nothing is wrong with it.

    Args:
        upload: what arrived.
        client: who was asked, with the rank it was asked to train.
        template: one factor per adapted layer, for shapes and dtype.
        dense: the tensors trained whole, as they were sent.
    """
    if (upload.client.id, upload.client.rank) != (client.id, client.rank):
        return f"answered as client {upload.client.id!r} of rank {upload.client.rank}"
    if upload.examples < 1:
        return f"claims {upload.examples} training examples"
    if set(upload.factors) != set(template):
        return f"layers differ: {_difference(upload.factors, template)}"
    if set(upload.dense) != set(dense):
        return f"dense tensors differ: {_difference(upload.dense, dense)}"
    for name, f in upload.factors.items():
        if reason := _misfit(f, template[name], client.rank):
            return f"{name}: {reason}"
    for name, t in upload.dense.items():
        if (t.shape, t.dtype) != (dense[name].shape, dense[name].dtype):
            return f"{name}: {tuple(t.shape)} {t.dtype}, not {tuple(dense[name].shape)}"
        if not torch.isfinite(t).all():
            return f"{name}: holds NaN or infinity"
    return None


def _misfit(f: Factor, like: Factor, rank: int) -> str | None:
    if f.rank != rank:
        return f"rank {f.rank}, not {rank}"
    if f.shape != like.shape:
        return f"shape {f.shape}, not {like.shape}"
    if {f.a.dtype, f.b.dtype} != {like.a.dtype}:
        return f"dtype {f.a.dtype}, not {like.a.dtype}"
    if not (_finite(f.a) and _finite(f.b) and math.isfinite(f.scale)):
        return "holds NaN or infinity"
    if not _finite(norm(f)):
        return "its update overflows"
    return None


def _finite(t: Tensor) -> bool:
    return bool(torch.isfinite(t).all())


def _difference(got: Mapping[str, object], expected: Mapping[str, object]) -> str:
    missing, extra = sorted(set(expected) - set(got)), sorted(set(got) - set(expected))
    parts = [f"missing {', '.join(missing)}"] if missing else []
    return "; ".join([*parts, *([f"unknown {', '.join(extra)}"] if extra else [])])
