"""Uploads as encoded changes: what the server gets is what the client sent, and what was left out
comes later."""

import math
from dataclasses import replace

import pytest
import torch

from polyrank.client.change import changed, known, restored
from polyrank.client.sending import Asked, receive, send
from polyrank.client.start import begin
from polyrank.errors import MessageError
from polyrank.lora.algebra import half, take, truncate
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.messages import Client, Download, Upload
from polyrank.recipe.codecs import codec
from polyrank.seeds import derive
from polyrank.wire.check import refusal, terms
from polyrank.wire.coded import encode

TEMPLATE = {"q": Factor(torch.zeros(1, 20), torch.zeros(30, 1)),
            "v": Factor(torch.zeros(1, 12), torch.zeros(8, 1))}  # fmt: skip
CLIENT = Client("c", 4)
DENSE = {"head": torch.ones(3, 12)}
CODECS = ["bf16", "int8", "int4", "topk(0.2)", "topk(0.2)+int8"]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=derive(seed, "random"))


def factors(rank: int = 4, seed: int = 0, scale: float = 2.0) -> Factors:
    found = {}
    for name, like in TEMPLATE.items():
        a, b = random(rank, like.shape[1], seed=seed), random(like.shape[0], rank, seed=seed + 1)
        found[name] = Factor(a, b, scale)
    return found


def moved(f: Factor, seed: int, by: float = 0.1) -> Factor:
    a, b = f.a + by * random(*f.a.shape, seed=seed), f.b + by * random(*f.b.shape, seed=seed + 1)
    return Factor(a, b, f.scale)


def asked(download: Download, how: str) -> Asked:
    return Asked(download, CLIENT, TEMPLATE, codec(how))


DOWNLOADS = {
    "sent": Download(start=factors(), dense=DENSE),
    "drawn": Download(fresh=5, dense=DENSE),
    "one side": Download(start={n: half(f, "b") for n, f in factors().items()}, fresh=5, train="b"),
    "kept": Download(start={n: half(f, "a") for n, f in factors().items()}, send="a", keep="b"),
    "core": Download(core={n: random(4, 4) for n in TEMPLATE}, train="core", keep="ab"),
    "nothing": Download(start=factors()),
}


def upload_to(download: Download, seed: int = 3) -> Upload:
    """What a client that trained a little would send."""
    if download.core:
        sent = {n: Factor(c + 0.1 * random(4, 4, seed=seed), c[:0])
                for n, c in download.core.items()}  # fmt: skip
    else:
        start = begin(download, CLIENT, TEMPLATE)
        sent = {n: half(moved(f, seed), download.up) for n, f in start.items()}
    dense = {n: t + 0.1 * random(*t.shape, seed=seed) for n, t in download.dense.items()}
    return Upload(CLIENT, sent, 7, dense)


@pytest.mark.parametrize("kind", DOWNLOADS)
@pytest.mark.parametrize("how", ["fp32", *CODECS])
def test_the_server_gets_what_it_asked_for(kind: str, how: str) -> None:
    """Names, ranks, shapes and kinds pass the server's checks; the values are near."""
    download = DOWNLOADS[kind]
    upload, wanted = upload_to(download), asked(download, how)
    data, size, owed = send(upload, wanted, {}, {}, derive(0, "test"))
    arrived = receive(data, wanted)
    template = {n: Factor(f.a.new_zeros(4, f.shape[1]), f.b.new_zeros(f.shape[0], 4))
                for n, f in TEMPLATE.items()}  # fmt: skip
    assert refusal(arrived, terms(download, CLIENT, template), download.dense) is None
    assert size.total == len(data)
    assert bool(owed) == ("topk" in how)
    base = known(download, CLIENT, TEMPLATE)
    for name, f in upload.factors.items():
        g, start = arrived.factors[name], base.factors[name]
        assert g.scale == f.scale
        for x, y, z in ((f.a, g.a, start.a), (f.b, g.b, start.b)):
            assert (x - y).norm() <= (0 if how == "fp32" else 0.8) * (x - z).norm()


def test_a_change_at_another_scale_is_of_the_same_update() -> None:
    """The client trains at its own scale; what is known is told at that one."""
    base = known(DOWNLOADS["sent"], CLIENT, TEMPLATE)
    own = {n: Factor(f.a, f.b * (f.scale / 0.5), 0.5) for n, f in factors().items()}
    change = changed(Upload(CLIENT, own, 1), base)
    assert not any(f.a.any() or f.b.any() for f in change.factors.values())
    back = restored(change, base)
    assert all(torch.equal(back.factors[n].b, f.b) for n, f in own.items())


def test_chosen_slots_and_cut_ranks_are_told_from_their_own_slots() -> None:
    base = known(DOWNLOADS["sent"], CLIENT, TEMPLATE)
    whole = upload_to(DOWNLOADS["sent"])
    some = {"q": (0, 3), "v": ()}
    chosen = replace(whole, factors={n: take(whole.factors[n], s) for n, s in some.items()},
                     slots=some)  # fmt: skip
    cut = replace(whole, factors={n: truncate(f, 2) for n, f in whole.factors.items()})
    for upload in (chosen, cut):
        change = changed(upload, base)
        assert all(f.a.abs().max() < 0.6 for f in change.factors.values() if f.rank)
        for name, f in restored(change, base).factors.items():
            torch.testing.assert_close(f.a, upload.factors[name].a)
            torch.testing.assert_close(f.b, upload.factors[name].b)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"factors": {"k": factors()["q"]}}, "k: was not asked for"),
        ({"factors": {"q": factors(5)["q"]}}, "q: slots or rank 5"),
        ({"factors": {"q": factors()["v"]}}, "q: shape"),
        ({"factors": {"q": replace(factors()["q"], scale=0.0)}}, "q: has scale 0"),
        ({"factors": {"q": replace(factors()["q"], scale=math.nan)}}, "q: has scale nan"),
        ({"slots": {"q": (0, 1, 2, 4)}}, "q: slots"),
        ({"slots": {"q": (0, 1, 2, -1)}}, "q: slots"),
        ({"dense": {"head": torch.ones(3, 11)}}, "head: "),
        ({"dense": {"other": torch.ones(3, 12)}}, "other: "),
    ],
)
def test_a_change_that_does_not_fit_is_refused_by_name(wrong: dict, why: str) -> None:
    download = DOWNLOADS["sent"]
    bad = replace(Upload(CLIENT, factors(), 1), **wrong)
    data, _ = encode(bad, codec("int8"), derive(0, "test"))
    with pytest.raises(MessageError, match=why):
        receive(data, asked(download, "int8"))


@pytest.mark.parametrize("how", CODECS)
def test_what_is_not_finite_arrives_as_such_and_is_not_owed(how: str) -> None:
    download = DOWNLOADS["sent"]
    upload, wanted = upload_to(download), asked(download, how)
    _, _, owed = send(upload, wanted, {}, {}, derive(0, "test"))
    upload.factors["q"].a[1, 3] = math.nan
    data, _, after = send(upload, wanted, {}, owed, derive(1, "test"))
    assert after is owed or not (after or owed)
    reason = refusal(receive(data, wanted), terms(download, CLIENT, factors()), download.dense)
    assert reason == "q: holds NaN or infinity"


def run(how: str, rounds: int, download: Download) -> tuple[dict, dict, dict]:
    """(Σ change, Σ what the server got of it, what is owed) of uploads from the same start."""
    base, owed = known(download, CLIENT, TEMPLATE), {}
    true, got = ({} for _ in range(2))
    for t in range(rounds):
        upload, wanted = upload_to(download, seed=100 + 2 * t), asked(download, how)
        data, _, owed = send(upload, wanted, {}, owed, derive(t, "test"))
        for sums, each in ((true, upload), (got, receive(data, wanted))):
            change = changed(each, base)
            for n, f in change.factors.items():
                for side, x in (("a", f.a), ("b", f.scale * f.b)):
                    sums[f"{side}/{n}"] = sums.get(f"{side}/{n}", 0) + x
            for n, x in change.dense.items():
                sums[f"dense/{n}"] = sums.get(f"dense/{n}", 0) + x
    return true, got, dict(owed)


@pytest.mark.parametrize("kind", ["sent", "core", "one side"])
@pytest.mark.parametrize("how", ["topk(0.05)", "topk(0.3)+int8", "topk(0.2)+int4"])
def test_what_was_sent_and_what_is_owed_is_what_changed(kind: str, how: str) -> None:
    for rounds in (1, 9):
        true, got, owed = run(how, rounds, DOWNLOADS[kind])
        for name, x in true.items():
            rest = owed.get(name, torch.zeros(()))
            torch.testing.assert_close(got[name] + rest, x, rtol=0, atol=1e-5 * rounds)


def test_without_feedback_most_would_be_lost() -> None:
    """The same change again and again arrives whole with feedback; a tenth of it would not."""
    download, got = DOWNLOADS["sent"], torch.zeros(4, 20)
    base, owed = known(download, CLIENT, TEMPLATE), {}
    upload, wanted = upload_to(download), asked(download, "topk(0.1)")
    change = changed(upload, base).factors["q"].a
    for t in range(60):
        data, _, owed = send(upload, wanted, {}, owed, derive(t, "test"))
        got += changed(receive(data, wanted), base).factors["q"].a
    assert (got / 60 - change).norm() < 0.25 * change.norm()


def test_slots_that_turned_round_owe_the_opposite_and_new_ones_nothing() -> None:
    """The server's slots 0 and 1 stay, 2 changes its sign, 3 is another one."""
    download = Download(start=factors(), dense=DENSE)
    _, _, owed = send(upload_to(download), asked(download, "topk(0.1)"), {}, {}, derive(0, "t"))
    sign, other = torch.tensor([1.0, 1.0, -1.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 1.0])
    turned = {
        n: Factor(
            sign[:, None] * f.a + other[:, None] * random(*f.a.shape, seed=77), sign * f.b, 2.0
        )
        for n, f in factors().items()
    }
    still = Upload(CLIENT, turned, 7, DENSE)  # nothing changes: all that is sent is what was owed
    later = Download(start=turned, dense=DENSE)
    data, _, _ = send(still, asked(later, "topk(1)"), {}, owed, derive(1, "t"))
    for name, f in changed(receive(data, asked(later, "topk(1)")),
                           known(later, CLIENT, TEMPLATE)).factors.items():  # fmt: skip
        torch.testing.assert_close(f.a, sign[:, None] * owed[f"a/{name}"], atol=1e-5, rtol=0)
        torch.testing.assert_close(2 * f.b, sign * owed[f"b/{name}"], atol=1e-5, rtol=0)


def test_another_rank_owes_nothing_but_its_head() -> None:
    download = DOWNLOADS["sent"]
    _, _, owed = send(upload_to(download), asked(download, "topk(0.1)"), {}, {}, derive(0, "t"))
    client = Client("c", 2)
    small = Download(start=factors(2), dense=DENSE)
    wanted = Asked(small, client, TEMPLATE, codec("topk(1)"))
    still = Upload(client, small.start, 7, DENSE)
    data, _, _ = send(still, wanted, {}, owed, derive(1, "t"))
    change = changed(receive(data, wanted), known(small, client, TEMPLATE))
    assert not any(f.a.any() or f.b.any() for f in change.factors.values())
    torch.testing.assert_close(change.dense["head"], owed["dense/head"])


def test_slots_that_are_not_sent_still_owe() -> None:
    """LoRA-A² sends some slots a round; those of other rounds keep what they lack."""
    download = DOWNLOADS["sent"]
    whole = upload_to(download)

    def of(slots: dict[str, tuple[int, ...]], dense: Dense = DENSE) -> Upload:
        some = {n: take(whole.factors[n], s) for n, s in slots.items() if s}
        return replace(whole, factors=some, slots=slots, dense=dense)

    wanted = asked(download, "topk(0.1)")
    _, _, first = send(of({"q": (0, 1), "v": (2,)}), wanted, {}, {}, derive(0, "t"))
    _, _, second = send(of({"q": (1, 3), "v": ()}), wanted, {}, first, derive(1, "t"))
    assert torch.equal(second["a/q"][0], first["a/q"][0])
    assert not torch.equal(second["a/q"][1], first["a/q"][1])
    assert torch.equal(second["b/v"], first["b/v"])
    assert not second["a/q"][2].any()
