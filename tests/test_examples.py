"""The examples run, and show what their text says."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_three_adapters_of_different_ranks_and_scalings(tmp_path: Path) -> None:
    found = runpy.run_path(str(EXAMPLES / "three_adapters.py"))["compare"](tmp_path)
    errors = {way: float(told) for way, (told, rank) in found.items() if rank}
    assert "same r value" in found["PEFT linear"][0]
    assert errors["polyrank flora"] < 1e-6
    assert found["polyrank flora"][1] == 28
    assert found["polyrank flexlora"][1] == 16
    assert errors["PEFT cat"] > 1  # silently: it is scaled as rsLoRA once more
    assert errors["polyrank flora"] < errors["polyrank flexlora"] < errors["polyrank replicate"]
