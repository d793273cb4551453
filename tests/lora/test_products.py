"""Linear layers by oneDNN: the numbers and the gradients of torch's own."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from polyrank.client import quick
from polyrank.lora import products

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)


@pytest.fixture(autouse=True)
def forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if on a processor that oneDNN is quicker on."""
    monkeypatch.setattr(products, "able", lambda: True)


class TorchProfile(TorchDispatchMode):
    """The names of the operations inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def gradients(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, y.numel()).view(y.shape)
    return list(torch.autograd.grad((y * weights).sum(), inputs))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=0, max_size=2), st.integers(1, 40), st.integers(1, 40),
    st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_values_and_gradients_are_those_of_torch(
    rows: list[int], width: int, out: int, biased: bool, turned: bool, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(*rows, 3, width, generator=rng)
    x = (x.transpose(0, -2) if turned else x).detach().requires_grad_()
    weight, bias = (torch.randn(*s, generator=rng).requires_grad_() for s in ((out, width), (out,)))
    inputs = [x, weight, bias] if biased else [x, weight]
    ours, theirs = (f(*inputs) for f in (products.linear, functional.linear))
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    for one, other in zip(gradients(ours, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_frozen_weight_gets_no_gradient_and_keeps_no_input() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = products.linear(x, torch.randn(5, 3), torch.randn(5))
    assert [t.shape for t in kept] == [(5, 3)]
    y.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_and_nothing_at_all_go_torch_s_way(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_product", None)  # it would fail
    x, weight = torch.ones(2, 3, dtype=dtype), torch.ones(4, 3, dtype=dtype)
    assert torch.equal(products.linear(x, weight), functional.linear(x, weight))
    assert products.linear(torch.ones(0, 3), torch.ones(4, 3)).shape == (0, 4)


def test_a_model_is_quickened_in_place_and_stays_the_same() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.GELU(), Conv1D(4, 5), nn.Linear(4, 2, bias=False))
    x = torch.randn(3, 7, 6)
    before, weights = net(x), {n: t.clone() for n, t in net.state_dict().items()}
    quick.multiply(net)
    assert type(net[0]) is type(net[3]) is quick.Linear
    assert type(net[2]) is quick.Transposed
    torch.testing.assert_close(net(x), before)
    torch.testing.assert_close(copy.deepcopy(net)(x), before)
    assert all(torch.equal(t, weights[n]) for n, t in net.state_dict().items())


@pytest.mark.parametrize("able", [True, False])
def test_one_token_of_each_text_is_one_product(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "able", lambda: able)
    x = torch.randn(4, 6, 8, requires_grad=True)
    weight = torch.randn(5, 8)
    with TorchProfile() as seen:
        y = products.linear(x[:, :1], weight)
        y.sum().backward()
    assert y.shape == (4, 1, 5)
    assert "bmm" not in seen.names
    torch.testing.assert_close(x.grad[:, 0], weight.sum(dim=0).expand(4, -1))
