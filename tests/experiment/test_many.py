"""What `--algorithms` means."""

import pytest

from polyrank.errors import RecipeError
from polyrank.experiment.many import variants


def test_names_may_carry_recipe_keys_of_their_own() -> None:
    chosen = variants("zero-pad, fedit:lora.ranks=8,fedhl:aggregation.weights=data:local.lr=1e-3")
    assert [v.label for v in chosen] == [
        "zero-pad", "fedit:lora.ranks=8", "fedhl:aggregation.weights=data:local.lr=1e-3",
    ]  # fmt: skip
    assert chosen[0].overrides == ("algorithm=zero-pad",)
    assert chosen[2].overrides == ("algorithm=fedhl", "aggregation.weights=data", "local.lr=1e-3")


def test_a_comma_in_brackets_belongs_to_the_value() -> None:
    one, two = variants("replicate:lora.ranks=[2,4,8],flora:lora.ranks={4: 50%, 8: 50%}")
    assert one.overrides == ("algorithm=replicate", "lora.ranks=[2,4,8]")
    assert two.overrides == ("algorithm=flora", "lora.ranks={4: 50%, 8: 50%}")


@pytest.mark.parametrize(("text", "problem"), [("", "names no"), ("flora,flora", "named twice")])
def test_nonsense_is_refused(text: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        variants(text)
