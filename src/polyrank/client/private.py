"""What a client keeps for itself between rounds: the folds in its base, and sides of factors.

base_i = W0 + Σ folds        (what was folded stays in the base; sides stay beside it)
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from polyrank.errors import MessageError
from polyrank.lora.factor import Factor, Factors
from polyrank.lora.update import Update, joined
from polyrank.messages import Client, Download

# "fold/…" (a dense update of the base), or "fold.a/…" and "fold.b/…" (a factored one), "a/…" and
# "b/…" (sides of factors), each by layer; and the "version" that these are, where it has one.
Private = Mapping[str, Tensor]


def base_of(download: Download, client: Client, before: Private) -> dict[str, Update]:
    """The updates, by layer, that the client's base holds once a download is folded in.

    Args:
        download: what the server sent.
        client: whom, for the error.
        before: what the client kept.

    Raises:
        MessageError: the download builds on private state that this client does not have.
    """
    version = int(before["version"]) if "version" in before else 0
    if download.since not in (0, version):
        raise MessageError(
            f"client {client.id!r} was sent a change on top of version {download.since}, "
            f"but it holds version {version}; it starts from the pretrained base"
        )
    return added(folds(before) if download.since else {}, download.fold)


def kept(download: Download, base: Mapping[str, Update], trained: Factors) -> dict[str, Tensor]:
    """What the client keeps after a round: versioned folds, and the sides it was asked to keep."""
    found: dict[str, Tensor] = {}
    if download.version:
        later = added(base, download.start) if download.absorb else base
        for name, update in later.items():
            found |= _named(name, update)
        found["version"] = torch.tensor(download.version)
    a = {f"a/{name}": f.a for name, f in trained.items() if "a" in download.keep}
    b = {f"b/{name}": f.scale * f.b for name, f in trained.items() if "b" in download.keep}
    return {**found, **a, **b}


def added(base: Mapping[str, Update], factors: Factors) -> dict[str, Update]:
    """Updates with the factors' added; inputs are not modified."""
    return {**base, **{name: joined(base.get(name), f) for name, f in factors.items()}}


def _named(name: str, update: Update) -> dict[str, Tensor]:
    """One layer's fold as tensors, the scale in B."""
    if isinstance(update, Tensor):
        return {f"fold/{name}": update}
    return {f"fold.a/{name}": update.a, f"fold.b/{name}": update.scale * update.b}


def folds(private: Private) -> dict[str, Update]:
    """By layer, the updates in the base of a client that keeps this."""
    kinds = [(*name.partition("/")[::2], t) for name, t in private.items()]
    whole: dict[str, Update] = {name: t for kind, name, t in kinds if kind == "fold"}
    sides = {name: t for kind, name, t in kinds if kind == "fold.a"}
    return {**whole, **{name: Factor(a, private[f"fold.b/{name}"]) for name, a in sides.items()}}
