"""The laws of the aggregation weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyrank.lora.algebra import half
from polyrank.lora.factor import Factor
from polyrank.weights import coherent, effective_number, fedhl, regularised, rule, size

RULES = ("fedhl", "fedhl(2)", "regularised", "coherent(0.5)")


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Data shares and errors of up to eight clients; errors repeat, as ranks do."""
    size = draw(st.integers(1, 8))
    examples = draw(st.lists(st.integers(1, 50), min_size=size, max_size=size))
    levels = draw(st.lists(st.floats(0, 1), min_size=1, max_size=4))
    errors = draw(st.lists(st.sampled_from(levels), min_size=size, max_size=size))
    total = sum(examples)
    return [n / total for n in examples], errors


@pytest.mark.parametrize("text", RULES)
@given(problem=problems())
def test_weights_are_a_distribution(text: str, problem: tuple[list[float], list[float]]) -> None:
    weigh = rule(text)
    assert weigh is not None
    p = weigh(*problem)
    assert sum(p) == pytest.approx(1)
    assert min(p) >= 0
    assert 1 - 1e-9 <= effective_number(p) <= len(p) + 1e-9


@pytest.mark.parametrize("text", ["regularised", "regularised(3)", "coherent"])
@pytest.mark.parametrize("error", [0.0, 0.3])
def test_equal_errors_leave_the_data_weights(text: str, error: float) -> None:
    q = [0.1, 0.2, 0.7]
    weigh = rule(text)
    assert weigh is not None
    assert weigh(q, [error] * 3) == pytest.approx(q, abs=1e-6)


def test_words_with_and_without_a_number() -> None:
    q, e = [0.5, 0.5], [1.0, 0.5]
    squared, plain = rule("fedhl(2)"), rule("fedhl")
    assert squared is not None
    assert plain is not None
    assert squared(q, e) == fedhl(q, e, kappa=2.0)
    assert plain(q, e) == fedhl(q, e)
    assert [rule(text) for text in ("data", "uniform", "norm")] == [None] * 3


def test_the_size_of_an_upload_is_the_norm_of_its_update() -> None:
    rng = torch.Generator().manual_seed(0)
    f = Factor(torch.randn(2, 5, generator=rng), torch.randn(4, 2, generator=rng), 3.0)
    g = Factor(torch.randn(1, 3, generator=rng), torch.randn(6, 1, generator=rng))
    whole = (f.delta.square().sum() + g.delta.square().sum()).sqrt()
    assert size({"f": f, "g": g}) == pytest.approx(float(whole))
    assert size({"f": half(f, "b")}) == pytest.approx(float((3 * f.b).norm()))


def test_fedhl_weights_by_hand() -> None:
    p = fedhl([0.5, 0.5], [1.0, 0.5])
    assert p == pytest.approx([0.501 / (0.501 + 1.001), 1.001 / (0.501 + 1.001)])
    squared = fedhl([0.5, 0.5], [1.0, 0.5], kappa=2.0)
    assert squared[1] / squared[0] == pytest.approx((1.001 / 0.501) ** 2)
    assert fedhl([0.9, 0.1], [0.0, 0.0]) == [0.5, 0.5]


def test_regularised_tends_to_data_over_error() -> None:
    q, e = [0.2, 0.3, 0.5], [0.1, 0.4, 0.2]
    limit = np.divide(q, e) / np.divide(q, e).sum()
    assert regularised(q, e, tau=1e9) == pytest.approx(limit, rel=1e-6)
    assert regularised(q, e, tau=0.0) == pytest.approx(q)


@given(problems(), st.floats(0.1, 10), st.integers(0, 99))
def test_regularised_minimises_its_objective(
    problem: tuple[list[float], list[float]], tau: float, seed: int
) -> None:
    q, e = map(np.array, problem)
    mean = q @ e
    if mean <= 1e-9:
        return

    def value(p: np.ndarray) -> float:
        return float((p**2 / q * tau * e / mean).sum() + (p**2 / q).sum())

    p = np.array(regularised(*problem, tau=tau))
    other = np.random.default_rng(seed).dirichlet(np.ones(len(q)))
    assert value(p) <= value(0.9 * p + 0.1 * other) + 1e-9


@given(problems(), st.floats(0.1, 10), st.integers(0, 99))
def test_coherent_minimises_its_objective(
    problem: tuple[list[float], list[float]], c: float, seed: int
) -> None:
    q, e = map(np.array, problem)
    mean = q @ e
    if mean <= 1e-9:
        return

    def value(p: np.ndarray) -> float:
        return float(p @ np.minimum.outer(e, e) @ p / mean + c * ((p - q) ** 2 / q).sum())

    p = np.array(coherent(*problem, c=c))
    other = np.random.default_rng(seed).dirichlet(np.ones(len(q)))
    for step in (0.5, 0.01):
        assert value(p) <= value((1 - step) * p + step * other) + 1e-7


def test_effective_number_counts_equal_clients() -> None:
    assert effective_number([0.25] * 4) == pytest.approx(4)
    assert effective_number([1.0, 0.0]) == 1
