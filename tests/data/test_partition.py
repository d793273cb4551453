"""Partitions: every example has exactly one owner, whatever the kind."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyrank.data import partition as partitions
from polyrank.data.partition import balanced, hold_out, names
from polyrank.errors import RecipeError

LABELS = st.lists(st.integers(0, 4), min_size=12, max_size=80)
KINDS = st.sampled_from(
    ["iid", "dirichlet(0.01)", "dirichlet(0.5)", "dirichlet(100)", "shards(1)", "shards(2)",
     "mixed(30%, 100, 0.3)", "mixed(50%, 1e300, 1e-300)", "mixed(100%,1e308,1)"]
)  # fmt: skip


def partition(*how) -> list[list[int]]:
    """What each client holds, as lists."""
    return [held.tolist() for held in partitions.partition(*how)]


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


@pytest.mark.parametrize("kind", ["iid", "dirichlet(0.5)", "shards(2)", "mixed(30%, 100, 0.3)"])
def test_another_seed_gives_another_partition(kind):
    labels = [index % 5 for index in range(200)]
    assert partition(labels, None, kind, 5, 0) != partition(labels, None, kind, 5, 1)


@pytest.mark.parametrize("kind", ["iid", "mixed(10%, 100, 0.3)"])
@given(labels=LABELS, clients=st.integers(1, 12), seed=st.integers(0, 2**40))
def test_sizes_differ_by_at_most_one(kind, labels, clients, seed):
    sizes = [len(part) for part in partition(labels, None, kind, clients, seed)]
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


@given(st.integers(1, 60), st.integers(1, 1000), st.integers(0, 2**40))
def test_as_many_clients_are_balanced_as_the_share_says(clients, per_mille, seed):
    found = balanced(f"mixed({per_mille / 10}%, 100, 0.3)", clients, seed)
    assert len(found) == max(1, (per_mille * clients + 500) // 1000)  # half up
    assert found == sorted(set(found))
    assert set(found) <= set(range(clients))
    assert balanced("dirichlet(0.3)", clients, seed) == []


@given(st.integers(0, 2**40))
def test_balanced_clients_hold_every_class_alike_and_the_others_do_not(seed):
    labels = [index % 5 for index in range(2003)]
    parts = partition(labels, None, "mixed(25%, 1000000000, 0.05)", 20, seed)
    even = balanced("mixed(25%, 1000000000, 0.05)", 20, seed)
    for client in even:
        count = Counter(labels[i] for i in parts[client])
        assert max(count.values()) - min(count[label] for label in range(5)) <= 2
    others = [part for client, part in enumerate(parts) if client not in even]
    assert skew(labels, others) > 0.4  # 0.2 is uniform


def test_the_seed_says_which_clients_are_balanced():
    drawn = {tuple(balanced("mixed(10%, 100, 0.3)", 20, seed)) for seed in range(20)}
    assert len(drawn) > 5


@given(st.integers(0, 2**40))
def test_an_exhausted_class_is_made_up_for_by_those_left(seed):
    labels = [0] * 3 + [1] * 57 + [2] * 60
    parts = partition(labels, None, "mixed(100%, 1000000000, 1)", 4, seed)
    counts = [Counter(labels[i] for i in part) for part in parts]
    # The first client asks for ten of each class; who comes later shares the other two classes.
    assert sorted(count[0] for count in counts) == [0, 0, 0, 3]
    first = next(count for count in counts if count[0])
    assert abs(first[1] - first[2]) <= 2
    assert {len(part) for part in parts} == {30}


@given(st.sets(st.integers(0, 999)), st.floats(0, 1, exclude_max=True), st.integers(0, 2**40))
def test_what_is_held_out_and_what_is_kept_make_up_the_whole(indices, share, seed):
    whole = sorted(indices)
    kept, held_out = hold_out(whole, share, seed, "validation", "0")
    assert sorted(kept + held_out) == whole
    assert (kept, held_out) == (sorted(kept), sorted(held_out))
    assert bool(held_out) == (share > 0 and len(whole) > 1)
    assert bool(kept) == bool(whole)
    if 1 <= share * len(whole) <= len(whole) - 1:
        assert abs(len(held_out) - share * len(whole)) <= 0.5


def test_each_path_and_seed_draws_its_own():
    draws = [hold_out(range(99), 0.3, *path)[1] for path in ((0, "a"), (0, "b"), (1, "a"))]
    assert len({tuple(draw) for draw in draws}) == 3
    assert hold_out(range(99), 0.3, 0, "a")[1] == draws[0]


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
        ("dirichlet(0)", 2, "data.partition", r"'dirichlet\(0\)' needs an alpha above 0"),
        ("key(writer)", 2, "data.partition", r"'key\(writer\)' names a column"),
        ("zipf(1)", 2, "data.partition", r"'zipf\(1\)' is not a partition; valid: dirichlet"),
        ("mixed(10%, 9, 1)", 4, "data.clients", "4 clients cannot share 3 examples"),
        ("mixed(0%, 9, 1)", 2, "data.partition", r"1\)' needs a share above 0% and at most 100%"),
        ("mixed(10%, 0, 1)", 2, "data.partition", r"1\)' needs an alpha above 0"),
    ],
)
def test_what_cannot_be_shared_names_the_key(kind, clients, key, message):
    with pytest.raises(RecipeError, match=message) as caught:
        partition([0, 1, 0], None, kind, clients, 0)
    assert caught.value.key == key
