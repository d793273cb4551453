"""Layers side by side give what they give one after another."""

import pytest
import torch

from polyrank.lora.parallel import each


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_are_by_name_and_in_order(threads: int) -> None:
    names = [f"layer {i}" for i in range(7)]
    found = each(names, lambda name: name[-1] * 2)
    assert list(found) == names
    assert found["layer 3"] == "33"
    assert torch.get_num_threads() == threads
    assert each([], str) == {}


def test_an_error_comes_through_and_the_threads_are_given_back(threads: int) -> None:
    def fail(name: str) -> str:
        raise ValueError(name)

    with pytest.raises(ValueError, match="one"):
        each(["one", "two"], fail)
    assert torch.get_num_threads() == threads


def test_the_bits_do_not_depend_on_the_number_of_threads() -> None:
    rng = torch.Generator().manual_seed(0)
    given = {str(i): torch.randn(96, 96, generator=rng) for i in range(4)}
    before, found = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(each(list(given), lambda n: torch.linalg.eigh(given[n] @ given[n].T)[1]))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0][n], found[1][n]) for n in given)
