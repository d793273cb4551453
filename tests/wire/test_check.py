"""What a server refuses, each with its reason."""

import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from polyrank.errors import MessageError
from polyrank.lora.algebra import half
from polyrank.lora.factor import Factor
from polyrank.messages import Client, Download, Prune, Upload
from polyrank.wire.check import Terms, fitting, refusal, terms

CLIENT = Client("c", 2)
TEMPLATE = {n: Factor(torch.zeros(8, 5), torch.zeros(6, 8)) for n in ("q", "v")}
DENSE = {"head": torch.zeros(3, 5)}


def factor(rank: int = 2, out: int = 6, width: int = 5) -> Factor:
    return Factor(torch.ones(rank, width), torch.ones(out, rank))


GOOD = Upload(CLIENT, {n: factor() for n in TEMPLATE}, 4, {"head": torch.ones(3, 5)})


ASKED = terms(Download(fresh=1), CLIENT, TEMPLATE)


def with_q(f: Factor) -> Upload:
    return replace(GOOD, factors={**GOOD.factors, "q": f})


def test_a_good_update_is_not_refused() -> None:
    assert refusal(GOOD, ASKED, DENSE) is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(GOOD, client=Client("other", 2)), "answered as client 'other' of rank 2"),
        (replace(GOOD, client=Client("c", 3)), "of rank 3"),
        (replace(GOOD, examples=0), "claims 0 training examples"),
        (replace(GOOD, examples=10**400), "claims 1000"),
        (replace(GOOD, factors={"q": factor()}), "layers differ: missing v"),
        (replace(GOOD, factors={**GOOD.factors, "k": factor()}), "unknown k"),
        (replace(GOOD, dense={}), "dense tensors differ: missing head"),
        (with_q(factor(rank=3)), "q: rank 3, not 2"),
        (with_q(factor(out=7)), r"q: shape \(7, 5\), not \(6, 5\)"),
        (with_q(Factor(torch.ones(2, 5).double(), torch.ones(6, 2).double())), "q: dtype"),
        (with_q(Factor(torch.full((2, 5), torch.nan), torch.ones(6, 2))), "q: holds NaN"),
        (with_q(Factor(torch.ones(2, 5), torch.full((6, 2), torch.inf))), "q: holds NaN"),
        (with_q(Factor(torch.ones(2, 5), torch.ones(6, 2), float("nan"))), "q: holds NaN"),
        (with_q(Factor(torch.ones(2, 5), torch.ones(6, 2), 0.0)), "q: has scale 0"),
        (with_q(Factor(torch.ones(2, 5), torch.ones(6, 2), 1e39)), "q: has scale 1e[+]39"),
        (with_q(Factor(torch.full((2, 5), 1e25), torch.full((6, 2), 1e25))), "q: its update over"),
        (replace(GOOD, dense={"head": torch.full((3, 5), torch.nan)}), "head: holds NaN"),
        (replace(GOOD, dense={"head": torch.zeros(5, 3)}), r"head: \(5, 3\)"),
    ],
)
def test_a_bad_update_is_refused_by_name(bad: Upload, reason: str) -> None:
    found = refusal(bad, ASKED, DENSE)
    assert found is not None
    assert re.search(reason, found), found


def asked(**fields: object) -> Terms:
    return terms(replace(Download(fresh=1), **fields), CLIENT, TEMPLATE)


def all_layers(f: Factor, **fields: object) -> Upload:
    return replace(GOOD, factors=dict.fromkeys(TEMPLATE, f), **fields)


def test_one_side_comes_back_where_one_was_asked_for() -> None:
    a, b = half(factor(), "a"), half(factor(), "b")
    core = Factor(torch.ones(2, 2), torch.ones(0, 2))
    assert refusal(all_layers(b), asked(train="b"), DENSE) is None
    assert refusal(all_layers(a), asked(train="ab", send="a"), DENSE) is None
    assert refusal(all_layers(core), asked(train="core"), DENSE) is None
    assert "shape (0, 5), not (6, 0)" in str(refusal(all_layers(a), asked(train="b"), DENSE))
    assert "shape (6, 5), not (6, 0)" in str(refusal(GOOD, asked(train="b"), DENSE))
    assert "shape (0, 5), not (0, 2)" in str(refusal(all_layers(a), asked(train="core"), DENSE))


def test_a_rank_is_cut_only_where_that_was_allowed() -> None:
    cut = all_layers(factor(rank=1))
    assert refusal(cut, asked(prune=Prune(0.5, 0.1)), DENSE) is None
    assert "rank 1, not 2" in str(refusal(cut, asked(), DENSE))
    assert "rank 0" in str(refusal(all_layers(factor(0)), asked(prune=Prune(0.5, 0.1)), DENSE))


def test_chosen_slots_must_be_slots_that_were_sent() -> None:
    sent = asked(start=dict.fromkeys(TEMPLATE, factor(rank=4)), select=1)
    two = replace(GOOD, factors={"q": factor()})
    assert refusal(replace(two, slots={"q": (0, 3), "v": ()}), sent, DENSE) is None
    for slots in ((0, 4), (3, 3), (0,), (0, 1, 2)):
        assert "do not fit" in str(refusal(replace(two, slots={"q": slots}), sent, DENSE))
    assert "layers differ" in str(refusal(two, sent, DENSE))
    many = all_layers(factor(), slots=dict.fromkeys(TEMPLATE, (0, 1)))
    assert "sent 4 slots, not at most 2" in str(refusal(many, sent, DENSE))
    assert "not asked to choose" in str(refusal(replace(GOOD, slots={"q": (0, 1)}), ASKED, DENSE))


def test_matrices_are_matrices() -> None:
    """In a process of its own: here the shape checks of the tests would refuse it first."""
    code = """
import torch
from polyrank.errors import RankError
from polyrank.lora.factor import Factor
for a, b in (((2, 0, 7), (6, 2)), ((2, 0), (6, 2, 9)), ((2,), (6, 2)), ((2, 5), ())):
    try:
        Factor(torch.zeros(a), torch.zeros(b))
    except RankError:
        continue
    raise SystemExit(f"accepted {a} {b}")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


SENT = Download(start={"q": factor()}, fold={"v": factor(rank=5)}, dense=DENSE)


def test_a_node_takes_what_is_for_its_model() -> None:
    for sent in (
        SENT,
        replace(SENT, start={"q": half(factor(), "b"), "v": half(factor(), "a")}, fresh=1),
        replace(SENT, start={}, core={"q": torch.eye(2)}),
        replace(SENT, start={"q": half(factor(), "")}),
    ):
        fitting(sent, CLIENT, TEMPLATE, DENSE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"start": {"k": factor()}}, "no layer k"),
        ({"start": {"q": factor(width=4)}}, r"q: was sent shape (6, 4), not (6, 5)"),
        ({"fold": {"q": half(factor(), "b")}}, r"q: was sent shape (6, 0), not (6, 5)"),
        ({"start": {"q": half(factor(rank=2**20), "")}}, r"q: was sent shape (0, 0)"),
        ({"start": {"q": Factor(factor().a.double(), factor().b.double())}}, "torch.float64"),
        ({"core": {"q": torch.ones(2, 3)}}, r"a core of shape (2, 3)"),
        ({"dense": {}}, "other tensors to train whole"),
    ],
)
def test_a_node_refuses_what_is_for_another_model(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(MessageError, match=re.escape(reason)):
        fitting(replace(SENT, **change), CLIENT, TEMPLATE, DENSE)
    with pytest.raises(MessageError, match="was asked for rank 6; its layers allow 1 to 5"):
        fitting(SENT, Client("c", 6), TEMPLATE, DENSE)
