"""How much memory a client's training step takes: peak(r) = fixed + slope · r bytes.

The fixed part is the model, the head's gradient and moments, the activations that are saved for
the gradients whatever the rank, and what is held for a moment on the way back. With a unit of
rank come its parameters, their gradient and moments, and its own activations. Activations are
counted, not modelled: one forward pass at rank 1 and one at rank 2.

Of clients that train at once each adds its own line to the one base, and the copies of its factors
and their gradients that are side by side with the others': peak(r_1 … r_G) = base + Σ_i own(r_i).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import torch
from torch import Tensor

from polyrank.client.checkpointing import checkpoints, whole
from polyrank.client.model import Workbench, template
from polyrank.client.placing import place, trainable
from polyrank.client.quantised import moment, scales
from polyrank.errors import RecipeError
from polyrank.lora.layer import LoraLayer
from polyrank.ranks import rounded_up
from polyrank.seeds import seeded

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Profile:
    """The memory of one training step, as a line over the rank.

    Args:
        fixed: bytes at rank 0.
        slope: bytes per unit of rank.
        limit: the largest rank that the layers allow.
        base: bytes, of the fixed ones, of the model that clients share.
        beside: bytes per unit of rank that come on top where clients train at once.
    """

    fixed: int
    slope: int
    limit: int
    base: int = 0
    beside: int = 0

    def peak(self, rank: int) -> int:
        """Bytes of all tensors at the fullest moment of a step: fixed + slope · rank."""
        return self.fixed + self.slope * rank

    def together(self, ranks: Sequence[int]) -> int:
        """Bytes of all tensors at the fullest moment of a step of several clients at once."""
        if len(ranks) == 1:
            return self.peak(*ranks)
        rows = len(ranks) * (self.fixed - self.base)
        return self.base + rows + (self.slope + self.beside) * sum(ranks)

    def most(self, ranks: Sequence[int], room: int, limit: int) -> int:
        """How many clients, at least one, can train at once in `room` bytes beside the base.

        Args:
            ranks: of all clients; the highest ones may come together.
            room: free bytes, with the base already there.
            limit: not more than this.
        """
        high = sorted(ranks, reverse=True)
        fits = [
            n for n in range(2, min(limit, len(high)) + 1)
            if self.together(high[:n]) - self.base <= room
        ]  # fmt: skip
        return max(fits, default=1)

    def largest(self, gib: float, most: int) -> int:
        """The largest rank, up to `most` and the layers' limit, with peak(rank) ≤ gib · 2^30.

        Args:
            gib: a client's memory in GiB.
            most: the highest rank that is asked for.

        Raises:
            RecipeError: on lora.ranks.gib, where not even rank 1 fits.
        """
        rank = (int(Fraction(str(gib)) * GIB) - self.fixed) // self.slope
        if rank < 1:
            raise RecipeError(
                "lora.ranks.gib",
                f"{gib:g} GiB is too little for rank 1; "
                f"the smallest that works is {rounded_up(Decimal(self.peak(1)) / GIB)} GiB",
            )
        return min(rank, most, self.limit)


def profile(bench: Workbench, batch: int, length: int, moments: int = 2) -> Profile:
    """Measure a model for batches of this size; what is placed on the bench is dropped.

    Only tensors are counted: what the allocator keeps beside them, and the folds that a client
    may hold, come on top.

    Args:
        bench: the model, as it was loaded.
        batch: examples in a batch.
        length: tokens in each of them.
        moments: tensors that the optimizer keeps per parameter (AdamW: 2).
    """
    place(bench, {})
    model = weights(bench)
    unit = template(bench, 1)
    per_rank = sum(f.a.nbytes + f.b.nbytes for f in unit.values())
    dense = sum(p.nbytes for p in trainable(bench)[1])
    one, two = (_kept(bench, rank, batch, length) for rank in (1, 2))
    slope = sum(two) - sum(one)
    # On the way back an operation has the gradients of its output and its input at once.
    fixed = model + dense * (1 + moments) + sum(one) - slope + 2 * max(one) + moment(bench.net)
    limit = min(min(f.shape) for f in unit.values())
    return Profile(fixed, slope + per_rank * (2 + moments), limit, model, 2 * per_rank)


def weights(bench: Workbench) -> int:
    """Bytes of the model as it is kept, with the folds beside its weights."""
    return sum(t.nbytes for t in _own(bench)) + scales(bench.net)


def _kept(bench: Workbench, rank: int, batch: int, length: int) -> list[int]:
    """What is there at the fullest moment: where blocks are computed again, one of them whole."""
    found = _saved(bench, rank, batch, length)
    if not checkpoints(bench):
        return found
    with whole(bench):
        every = sum(_saved(bench, rank, batch, length))
    return [*found, (every - sum(found)) // bench.net.config.num_hidden_layers]


def _saved(bench: Workbench, rank: int, batch: int, length: int) -> list[int]:
    """Bytes of each block of memory, the model's own apart, that a forward pass saves."""
    place(bench, template(bench, rank))
    trainable(bench)
    own = {t.untyped_storage().data_ptr() for t in _own(bench)}
    kept: list[Tensor] = []  # alive, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    bench.net.train()
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with seeded(0, "memory"), hooks:
        bench.net(**_batch(bench, batch, length))
    place(bench, {})
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return [size for address, size in sizes.items() if address not in own]


def _own(bench: Workbench) -> list[Tensor]:
    """The model's tensors, and the folds beside its weights."""
    layers = [m for m in bench.net.modules() if isinstance(m, LoraLayer)]
    beside = [t for layer in layers for t in layer.beside]
    return [*bench.net.parameters(), *bench.net.buffers(), *beside]


def _batch(bench: Workbench, batch: int, length: int) -> dict[str, Tensor]:
    """Any tokens, with one of padding, so that the model builds its mask as for real texts."""
    token = int(bench.tokenizer.pad_token_id == 0)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, -1] = 0
    ids = torch.full_like(mask, token)
    labels = bench.objective.targets(ids)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
