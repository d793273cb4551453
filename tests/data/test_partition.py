"""Partitions: every example has exactly one owner, whatever the kind."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyrank.data.partition import names, partition
from polyrank.errors import RecipeError

LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=80)
KINDS = st.sampled_from(
    ["iid", "dirichlet(0.01)", "dirichlet(0.5)", "dirichlet(100)", "shards(1)", "shards(2)"]
)


def skew(labels: list[int], parts: list[list[int]]) -> float:
    """Mean share of the commonest class, over clients that hold anything."""
    shares = [max(Counter(labels[i] for i in part).values()) / len(part) for part in parts if part]
    return float(np.mean(shares))


@given(LABELS, KINDS, st.integers(1, 6), st.integers(0, 2**40))
def test_every_index_has_exactly_one_client(labels, kind, clients, seed):
    parts = partition(labels, None, kind, clients, seed)
    assert len(parts) == clients == len(set(names(None, kind, clients)))
    assert sorted(chain.from_iterable(parts)) == list(range(len(labels)))


@given(LABELS, KINDS, st.integers(1, 6), st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_partition(labels, kind, clients, seed):
    assert partition(labels, None, kind, clients, seed) == partition(
        labels, None, kind, clients, seed
    )


@pytest.mark.parametrize("kind", ["iid", "dirichlet(0.5)", "shards(2)"])
def test_another_seed_gives_another_partition(kind):
    labels = [index % 5 for index in range(200)]
    assert partition(labels, None, kind, 5, 0) != partition(labels, None, kind, 5, 1)


@given(LABELS, st.integers(1, 12), st.integers(0, 2**40))
def test_iid_sizes_differ_by_at_most_one(labels, clients, seed):
    sizes = [len(part) for part in partition(labels, None, "iid", clients, seed)]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 2**40))
def test_a_small_alpha_is_more_skewed_than_a_large_one(seed):
    labels = [index % 5 for index in range(1000)]
    parts = [partition(labels, None, f"dirichlet({a})", 10, seed) for a in ("0.05", "1", "1000")]
    strong, medium, weak = (skew(labels, part) for part in parts)
    assert strong > medium > weak
    assert weak < 0.35  # 0.2 is uniform


def test_a_tiny_alpha_gives_each_class_to_one_client():
    labels = [index % 5 for index in range(100)]
    parts = partition(labels, None, "dirichlet(0.0000001)", 10, 0)
    owners: dict[int, set[int]] = {label: set() for label in labels}
    for client, part in enumerate(parts):
        for index in part:
            owners[labels[index]].add(client)
    assert [len(owner) for owner in owners.values()] == [1] * 5
    assert sum(not part for part in parts) >= 5


@given(st.integers(1, 3), st.integers(0, 2**40))
def test_a_client_with_n_shards_sees_few_classes(each, seed):
    labels = [index % 10 for index in range(600)]
    parts = partition(labels, None, f"shards({each})", 10, seed)
    assert {len(part) for part in parts} == {60}
    # A shard is shorter than a class, so it touches two classes at most.
    assert all(len({labels[i] for i in part}) <= 2 * each for part in parts)


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40), st.integers(1, 99))
def test_natural_owners_hold_exactly_their_own(keys, clients):
    parts = partition([0] * len(keys), keys, "key(speaker)", clients, 0)
    assert names(keys, "key(speaker)", clients) == sorted(set(keys))
    for name, part in zip(sorted(set(keys)), parts, strict=True):
        assert part == [index for index, key in enumerate(keys) if key == name]


def test_names_sort_like_the_clients():
    assert names(None, "iid", 11) == sorted(names(None, "iid", 11))
    assert names(None, "iid", 11)[-1] == "10"


@pytest.mark.parametrize(
    ("kind", "clients", "key", "message"),
    [
        ("iid", 4, "data.clients", "4 clients cannot share 3 examples"),
        ("dirichlet(1)", 4, "data.clients", "4 clients cannot share 3 examples"),
        ("shards(2)", 2, "data.clients", r"shards\(2\) for 2 clients needs 4 examples, not 3"),
        ("dirichlet(0)", 2, "data.partition", r"dirichlet\(0\) needs an alpha above 0"),
        ("key(writer)", 2, "data.partition", r"'key\(writer\)' names a column"),
        ("zipf(1)", 2, "data.partition", r"'zipf\(1\)' is none of"),
    ],
)
def test_what_cannot_be_shared_names_the_key(kind, clients, key, message):
    with pytest.raises(RecipeError, match=message) as caught:
        partition([0, 1, 0], None, kind, clients, 0)
    assert caught.value.key == key
