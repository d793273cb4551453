"""What a client is asked to do in a round, and which clients can do it at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from polyrank.client.private import Private, base_of
from polyrank.data.batches import Indices, Tokens
from polyrank.lora.update import Update, same
from polyrank.messages import Client, Download
from polyrank.recipe.schema import Local, Lora


class Share(NamedTuple):
    """A client's own examples: indices of those it trains on, and of those it keeps aside."""

    tokens: Tokens
    train: Indices
    validation: Indices = ()


class Task(NamedTuple):
    """What a client needs to know beside its download.

    Args:
        lora: for the scale at the client's rank.
        local: steps, batches, optimizer.
        round: this round's number, from 1.
        rounds: how many there are (for the schedule).
        seed: the recipe's.
    """

    lora: Lora
    local: Local
    round: int
    rounds: int
    seed: int


class Job(NamedTuple):
    """One client's round.

    Args:
        share: the client's own examples.
        client: who, and at which rank.
        download: what it was sent.
        before: what it kept until now.
        base: by layer, the updates that its base holds with the download's folds.
    """

    share: Share
    client: Client
    download: Download
    before: Private
    base: Mapping[str, Update]


def job(share: Share, client: Client, download: Download, before: Private) -> Job:
    """A client's round from what it was sent and what it kept.

    Raises:
        MessageError: the download builds on what this client does not have.
    """
    return Job(share, client, download, before, base_of(download, client, before))


def together(jobs: Sequence[Job]) -> Iterator[list[int]]:
    """Which of the jobs can be done at once: the same base, and the same sides to train.

    Those of one rank come side by side, since they are multiplied together.
    """
    left = sorted(range(len(jobs)), key=lambda i: jobs[i].client.rank)
    while left:
        first = jobs[left[0]]
        alike = [i for i in left if i == left[0] or _alike(first, jobs[i])]
        left = [i for i in left if i not in alike]
        yield alike


def _alike(one: Job, other: Job) -> bool:
    chooses = one.download.select is not None or other.download.select is not None  # its own base
    return (
        not chooses
        and one.download.train == other.download.train
        and one.share.tokens is other.share.tokens
        and one.base.keys() == other.base.keys()
        and all(same(update, other.base[name]) for name, update in one.base.items())
    )
