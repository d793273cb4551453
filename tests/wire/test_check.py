"""What a server refuses, each with its reason."""

import re
from dataclasses import replace

import pytest
import torch

from polyrank.lora.factor import Factor
from polyrank.messages import Client, Upload
from polyrank.wire.check import refusal

CLIENT = Client("c", 2)
TEMPLATE = {n: Factor(torch.zeros(8, 5), torch.zeros(6, 8)) for n in ("q", "v")}
DENSE = {"head": torch.zeros(3, 5)}


def factor(rank: int = 2, out: int = 6, width: int = 5) -> Factor:
    return Factor(torch.ones(rank, width), torch.ones(out, rank))


GOOD = Upload(CLIENT, {n: factor() for n in TEMPLATE}, 4, {"head": torch.ones(3, 5)})


def with_q(f: Factor) -> Upload:
    return replace(GOOD, factors={**GOOD.factors, "q": f})


def test_a_good_update_is_not_refused() -> None:
    assert refusal(GOOD, CLIENT, TEMPLATE, DENSE) is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(GOOD, client=Client("other", 2)), "answered as client 'other' of rank 2"),
        (replace(GOOD, client=Client("c", 3)), "of rank 3"),
        (replace(GOOD, examples=0), "claims 0 training examples"),
        (replace(GOOD, factors={"q": factor()}), "layers differ: missing v"),
        (replace(GOOD, factors={**GOOD.factors, "k": factor()}), "unknown k"),
        (replace(GOOD, dense={}), "dense tensors differ: missing head"),
        (with_q(factor(rank=3)), "q: rank 3, not 2"),
        (with_q(factor(out=7)), r"q: shape \(7, 5\), not \(6, 5\)"),
        (with_q(Factor(torch.ones(2, 5).double(), torch.ones(6, 2).double())), "q: dtype"),
        (with_q(Factor(torch.full((2, 5), torch.nan), torch.ones(6, 2))), "q: holds NaN"),
        (with_q(Factor(torch.ones(2, 5), torch.full((6, 2), torch.inf))), "q: holds NaN"),
        (with_q(Factor(torch.ones(2, 5), torch.ones(6, 2), float("nan"))), "q: holds NaN"),
        (with_q(Factor(torch.full((2, 5), 1e25), torch.full((6, 2), 1e25))), "q: its update over"),
        (replace(GOOD, dense={"head": torch.full((3, 5), torch.nan)}), "head: holds NaN"),
        (replace(GOOD, dense={"head": torch.zeros(5, 3)}), r"head: \(5, 3\)"),
    ],
)
def test_a_bad_update_is_refused_by_name(bad: Upload, reason: str) -> None:
    found = refusal(bad, CLIENT, TEMPLATE, DENSE)
    assert found is not None
    assert re.search(reason, found), found
