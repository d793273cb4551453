"""Quantiles over very many clients."""

from hypothesis import given
from hypothesis import strategies as st

from polyrank.report.rank_table import quantiles


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_the_least_value_that_a_share_does_not_exceed(values, share):
    (found,) = quantiles(values, [share])
    assert found in values
    assert sum(v <= found for v in values) >= share * len(values) - 1e-9
    assert sum(v < found for v in values) < share * len(values)
