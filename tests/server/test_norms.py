"""Uploads held to how far those of the round before have moved."""

from collections.abc import Iterable, Iterator
from statistics import median

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from polyrank.client.change import Known
from polyrank.client.private import Private, base_of, kept
from polyrank.client.start import begin
from polyrank.lora.algebra import difference, half, take
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.schema import Aggregation
from polyrank.server.loop import Exchange, Federation, Plan, Reply, Round, train
from polyrank.server.norms import Cohort, Norm, moved
from tests.server.test_loop import HEAD, TEMPLATE, answer, honest, plan, start

NORMS = st.floats(0.01, 100.0)


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 4), st.integers(0, 99), st.sampled_from([1e-6, 1e-2, 1.0]))
def test_a_difference_is_that_of_the_updates_and_loses_no_digits(
    rank: int, seed: int, change: float
) -> None:
    g = Factor(drawn(rank, 5, seed=seed), drawn(6, rank, seed=seed + 1), 0.5)
    f = Factor(g.a + change * drawn(rank, 5, seed=seed + 2), g.b + change * drawn(6, rank, seed=3))
    f = Factor(f.a, f.b, 0.5)
    (fa, fb), (ga, gb) = ((x.a.double(), x.b.double()) for x in (f, g))
    expected = 0.5 * (fb @ fa - gb @ ga)
    scale = max(float(expected.norm()), 1e-12)
    assert float((difference(f, g).delta.double() - expected).norm()) < 1e-2 * scale


def test_what_stands_alone_is_measured_by_itself() -> None:
    one = Known({"q": Factor(torch.ones(2, 5), torch.ones(0, 2))}, {"head": torch.zeros(3)})
    upload = Upload(
        Client("c", 2), {"q": Factor(torch.full((2, 5), 3.0), torch.ones(0, 2))}, 1,
        {"head": torch.full((3,), 2.0)},
    )  # fmt: skip
    assert moved(upload, one) == pytest.approx((2 * 10**0.5, 2 * 3**0.5))
    core = Known({"q": Factor(torch.eye(2), torch.ones(0, 2))}, {})
    back = Upload(Client("c", 2), {"q": Factor(3 * torch.eye(2), torch.ones(0, 2))}, 1)
    assert moved(back, core) == pytest.approx((2 * 2**0.5, 0.0))


def test_chosen_and_cut_slots_are_measured_against_the_same_slots() -> None:
    whole = Factor(drawn(4, 5, seed=0), drawn(6, 4, seed=1))
    client = Client("c", 4)
    some = Factor(whole.a[[1, 3]], whole.b[:, [1, 3]])
    assert (
        moved(Upload(client, {"q": some}, 1, slots={"q": (1, 3)}), Known({"q": whole}, {}))[0] == 0
    )
    cut = Factor(whole.a[:2], 2 * whole.b[:, :2])
    found = moved(Upload(client, {"q": cut}, 1), Known({"q": whole}, {})).factors
    assert found == pytest.approx(float((whole.b[:, :2] @ whole.a[:2]).norm()), rel=1e-5)


def test_what_overflows_is_infinite_and_above_every_limit() -> None:
    zero = Known({"q": Factor(torch.zeros(1, 5), torch.zeros(6, 1))}, {})
    huge = Factor(torch.full((1, 5), 1e30), torch.full((6, 1), 1e30))
    assert moved(Upload(Client("c", 1), {"q": huge}, 1), zero).factors == float("inf")
    assert Cohort({"ab/factors": 1.0}, 1e300).refusal("c", "ab", Norm(float("inf"), 0.0))


def judged(norms: Iterable[float], last: dict[str, float], limit: float | None) -> list[bool]:
    """Which are refused."""
    cohort = Cohort(last, limit)
    return [cohort.refusal("c", "ab", Norm(x, 0.0)) is not None for x in norms]


@given(
    st.lists(NORMS, max_size=12), NORMS, st.floats(1.0, 50.0), st.sampled_from([0.25, 8.0, 1024.0])
)
def test_the_limit_is_relative_to_the_last_median(
    norms: list[float], last: float, limit: float, unit: float
) -> None:
    refused = judged(norms, {"ab/factors": last}, limit)
    assert refused == [x > limit * last for x in norms]
    assert refused == judged([x * unit for x in norms], {"ab/factors": last * unit}, limit)
    assert not any(judged(norms, {"ab/factors": last}, None))


@given(st.lists(NORMS, min_size=3, max_size=9), st.data())
def test_a_minority_moves_no_median_beyond_what_the_honest_sent(
    norms: list[float], data: st.DataObject
) -> None:
    """Refused or not, what most sent bounds what the next round is held to."""
    bad = [1e6] * data.draw(st.integers(0, (len(norms) - 1) // 2))
    order = data.draw(st.permutations([*norms, *bad]))
    cohort = Cohort({}, 2.0)
    for x in order:
        cohort.refusal("c", "ab", Norm(x, 0.0))
    assert min(norms) <= cohort.medians()["ab/factors"] <= max(norms)


def test_in_the_first_round_those_before_are_the_cohort_from_the_fourth_on() -> None:
    assert judged([1.0, 50.0, 1.0, 50.0, 1.0, 50.0], {}, 10.0) == [*[False] * 3, True, False, True]


def test_uploads_are_held_to_those_of_their_kind_and_a_kind_is_remembered() -> None:
    cohort = Cohort({"a/factors": 1.0, "b/factors": 100.0}, 10.0)
    assert cohort.refusal("c", "b", Norm(500.0, 0.0)) is None
    assert "by a norm of 500, above 10 (aggregation.max_norm) times 1, the median of the last" in (
        str(cohort.refusal("c", "a", Norm(500.0, 0.0)))
    )
    cohort = Cohort({"a/factors": 1.0, "b/factors": 100.0}, 10.0)
    cohort.refusal("c", "b", Norm(120.0, 0.0))
    assert cohort.medians() == {"a/factors": 1.0, "b/factors": 120.0, "b/dense": 0.0}


def test_a_head_is_held_to_heads() -> None:
    cohort = Cohort({"ab/factors": 100.0, "ab/dense": 1.0}, 10.0)
    reason = str(cohort.refusal("c", "ab", Norm(100.0, 11.0)))
    assert "client 'c' moved its tensors trained whole by a norm of 11" in reason


def limited(k: float | None, name: str = "replicate", rounds: int = 3) -> Plan:
    return plan(name, rounds)._replace(aggregation=Aggregation(weights="data", max_norm=k))


def boosted(id: str, by: float, since: int = 1) -> Exchange:
    """An engine under which one client sends its change so many times over."""
    private: dict[str, Private] = {}

    def trained(client: Client, download: Download, change: float) -> Upload:
        before = private.get(client.id, {})
        begun, sides = begin(download, client, TEMPLATE, before), download.train
        ends = {
            n: Factor(f.a + change * ("a" in sides), f.b + change * ("b" in sides), f.scale)
            for n, f in begun.items()
        }
        private[client.id] = kept(download, base_of(download, client, before), ends)
        slots = {} if download.select is None else {"w": tuple(range(download.select))}
        sent = {n: half(take(f, slots[n]) if slots else f, download.up) for n, f in ends.items()}
        return Upload(client, sent, client.rank, dict(HEAD), slots=slots)

    def exchange(round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        for client, download in sent:
            bad = client.id == id and round >= since
            yield Reply(client, trained(client, download, by if bad else 1.0))

    return exchange


def run(plan: Plan, exchange: Exchange, begin: Federation | None = None) -> list[Round]:
    return list(train(plan, exchange, begin or start(plan)))


@pytest.mark.parametrize("name", ["replicate", "flexlora", "rolora", "lora-a2", "fedsa-lora"])
def test_a_client_that_sends_far_more_than_the_others_is_left_out(name: str) -> None:
    done = run(limited(20.0, name, 6), boosted("c1", 1e4, since=3))
    left = [[r.client.id for r in one.left_out] for one in done]
    assert left == [[], [], *[["c1"]] * 4]
    for one in done[2:]:
        (out,) = one.left_out
        assert out.norm is not None
        assert f"client 'c1' moved its factors by a norm of {out.norm.factors:.3g}" in str(
            out.failure
        )
        assert all(r.norm and r.norm.factors < out.norm.factors / 20 for r in one.replies)


def test_a_jump_of_everybody_costs_one_round() -> None:
    def exchange(round: int, sent: Iterable[tuple[Client, Download]]) -> Iterator[Reply]:
        for client, download in sent:
            yield Reply(client, answer(client, download, 1.0 if round < 2 else 1e3))

    done = run(limited(20.0, rounds=4), exchange)
    assert [len(one.left_out) for one in done] == [0, 3, 0, 0]


def test_a_limit_that_is_not_reached_changes_no_bit_and_goes_on_from_any_round() -> None:
    plain, held = (run(limited(k, rounds=4), honest) for k in (None, 1e3))
    assert [one.federation.norms for one in plain] == [one.federation.norms for one in held]
    whole = run(limited(20.0, rounds=4), boosted("c1", 1e4, since=3))
    again = run(limited(20.0, rounds=4), boosted("c1", 1e4, since=3), whole[1].federation)
    for pair in ((plain, held), (again, whole)):
        one, two = (done[-1].federation.state.factors["w"] for done in pair)
        assert torch.equal(one.a, two.a)
        assert torch.equal(one.b, two.b)
    norms = [r.norm.factors for r in plain[-1].replies if r.norm]
    assert plain[-1].federation.norms["ab/factors"] == median(norms)
