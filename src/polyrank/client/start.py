"""The factors a client's round begins with."""

import torch
from torch import Tensor

from polyrank.client.private import Private
from polyrank.errors import MessageError
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.start import rows
from polyrank.messages import Client, Download


def begin(
    download: Download, client: Client, template: Factors, private: Private | None = None
) -> dict[str, Factor]:
    """The factors a client starts from: what it was sent, what it kept, what it draws.

    Each side by itself: the one that was sent; else the one that the client kept, its leading
    slots up to the rank; else rows of A from the seed `fresh`, and B = 0.

    Args:
        download: what the server sent.
        client: whose rank the factors have where none were sent.
        template: one factor per layer of the client's own model, for shapes and dtype.
        private: what the client kept.

    Raises:
        MessageError: rows of A were neither sent nor kept, and there is no seed to draw them from.
    """
    kept = private or {}
    factors = {}
    for name, like in template.items():
        sent = download.start.get(name, Factor(like.a[:0, :0], like.b[:0, :0]))
        rank = sent.rank if name in download.start else client.rank
        a, b = kept.get(f"a/{name}"), kept.get(f"b/{name}")
        if sent.a.shape[1]:
            a = sent.a
        elif a is None or len(a) < rank:
            a = _drawn(like, rank, download.fresh, client, name)
        if sent.b.shape[0]:
            b = sent.b
        elif b is None:
            b = like.b.new_zeros(like.shape[0], rank)
        factors[name] = Factor(a[:rank], _columns(b, rank), sent.scale)
    return factors


def _drawn(like: Factor, rank: int, seed: int | None, client: Client, name: str) -> Tensor:
    if seed is None:
        raise MessageError(
            f"client {client.id!r} was sent no rows of A for {name} and no seed to draw them from"
        )
    return rows(rank, like.shape[1], seed, name).to(like.a)


def _columns(b: Tensor, rank: int) -> Tensor:
    """The leading `rank` columns, and empty ones where there are fewer."""
    missing = max(0, rank - b.shape[1])
    return torch.cat([b[:, :rank], b.new_zeros(len(b), missing)], dim=1)
