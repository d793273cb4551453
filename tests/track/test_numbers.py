"""A record as named numbers."""

import math

import pytest

from polyrank.track.numbers import flat, of_final, of_round
from tests.report.synthetic import run_records

RUN = run_records("fedhl", clients=4)


def client(rank: int, examples: int, loss: float | None, **metrics: float) -> dict[str, object]:
    sizes = {"total": 1_000_000, "factors": 0, "dense": 0}
    return {
        "id": str(rank), "rank": rank, "examples": examples, "loss": loss, "seconds": 1.0,
        "metrics": metrics, "norm": {"factors": 2.0, "dense": None}, "up": sizes, "down": sizes,
    }  # fmt: skip


def record(*clients: dict[str, object], **more: object) -> dict[str, object]:
    return {"round": 1, "clients": list(clients), "test": None, "seconds": 2.0, **more}


def test_a_client_counts_by_its_examples_and_what_is_not_finite_not_at_all() -> None:
    found = of_round(
        record(
            client(2, 10, 1.0, val_loss=3.0), client(2, 30, 2.0), client(8, 10, math.nan),
            client(8, 10, None), left_out=[client(4, 5, None)], info={"n_eff": 2, "weights": {}},
        )
    )  # fmt: skip
    assert found == {
        "clients/loss": 1.75, "clients/val_loss": 3.0, "clients/update_norm": 2.0,
        "rank_2/loss": 1.75, "rank_2/clients": 2, "rank_8/clients": 2,
        "ranks/min": 2, "ranks/mean": 5, "ranks/max": 8, "info/n_eff": 2,
        "round/clients": 4, "round/left_out": 1, "round/seconds": 2.0,
        "traffic/up_mb": 5.0, "traffic/down_mb": 5.0,
    }  # fmt: skip


def test_real_records_have_all_that_is_plotted() -> None:
    first, last = of_round(RUN.rounds[0]), of_round(RUN.rounds[-1])
    assert not any(name.startswith(("clients/", "rank")) for name in first)
    assert {"test/accuracy", "spectrum/effective_rank", "probe/after", "rank_16/loss"} <= {*last}
    final = of_final(RUN.final)
    assert final["final/accuracy"] == RUN.accuracy
    held = [c["accuracy"] for c in RUN.final["clients"]]
    assert final["final/clients_accuracy"] == pytest.approx(sum(held) / len(held))


def test_a_recipe_has_dotted_keys() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [2]}, "e": {}}
    assert flat(nested) == {"a.b.c": 1, "a.d": [2], "e": {}}
