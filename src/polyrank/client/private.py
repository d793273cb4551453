"""What a client keeps for itself between rounds: the folds in its base, and sides of factors.

base_i = W0 + Σ folds        (what was folded stays in the base; sides stay beside it)
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from polyrank.errors import MessageError
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Download

# "fold/…" (a dense update of the base), "a/…" and "b/…" (sides of factors), each by layer; and
# the "version" that these are, where it has one.
Private = Mapping[str, Tensor]


def base_of(download: Download, client: Client, before: Private) -> dict[str, Tensor]:
    """The dense updates, by layer, that the client's base holds once a download is folded in.

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
    folds = {
        name.removeprefix("fold/"): t for name, t in before.items() if name.startswith("fold/")
    }
    return added(folds if download.since else {}, download.fold)


def kept(download: Download, base: Mapping[str, Tensor], trained: Factors) -> dict[str, Tensor]:
    """What the client keeps after a round: versioned folds, and the sides it was asked to keep."""
    folds = {}
    if download.version:
        later = added(base, download.start) if download.absorb else base
        folds = {f"fold/{name}": t for name, t in later.items()}
        folds["version"] = torch.tensor(download.version)
    a = {f"a/{name}": f.a for name, f in trained.items() if "a" in download.keep}
    b = {f"b/{name}": f.scale * f.b for name, f in trained.items() if "b" in download.keep}
    return {**folds, **a, **b}


def added(base: Mapping[str, Tensor], factors: Factors) -> dict[str, Tensor]:
    """Dense updates with the factors' added; inputs are not modified."""
    folded = {name: f.delta for name, f in factors.items()}
    both = {name: base[name] + folded[name] for name in base.keys() & folded.keys()}
    return {**base, **folded, **both}
