"""Codecs as a recipe names them."""

import re

import pytest

from polyrank.errors import RecipeError
from polyrank.recipe.codecs import Codec, codec
from polyrank.recipe.load import load, schema

GOOD = {
    "fp32": Codec(),
    "bf16": Codec("bf16"),
    "int8": Codec("int8"),
    "int4": Codec("int4"),
    "topk(0.1)": Codec("fp32", 0.1),
    "topk(10%)": Codec("fp32", 0.1),
    "topk(.01)+int4": Codec("int4", 0.01),
    "topk(1)+bf16": Codec("bf16", 1.0),
}
BAD = {
    "int9": "'int9' is not a codec; did you mean 'int8'?",
    "topk": "'topk' is not a codec; did you mean 'topk(0.1)'?",
    "topk(0.1)+int9": "'topk(0.1)+int9' is not a codec; did you mean 'topk(0.1)+int8'?",
    "int8+topk(0.1)": "'int8+topk(0.1)' is not a codec; did you mean 'topk(0.1)+int8'?",
    "topk(0)": "'topk(0)' needs a share above 0 and at most 1",
    "topk(110%)": "'topk(110%)' needs a share above 0 and at most 1",
    "zip": "'zip' is not a codec; valid: bf16, fp32, int4, int8, topk(0.1), topk(0.1)+int8",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_codec_is_read(text: str) -> None:
    assert codec(text) == GOOD[text]
    assert codec(str(GOOD[text])) == GOOD[text]
    assert load("demo", [f"wire.up={text}"]).recipe.wire.up == text
    properties = schema()["$defs"]["Wire"]["properties"]
    assert re.search(properties["up"]["pattern"], text)
    assert bool(re.search(properties["down"]["pattern"], text)) == ("topk" not in text)


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_wrong_codec_is_one_line(text: str, way: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load("demo", [f"wire.{way}={text}"])
    assert str(caught.value) == f"command line: wire.{way}: {BAD[text]}"


def test_a_download_is_not_thinned_out() -> None:
    with pytest.raises(RecipeError, match=r"wire.down: 'topk\(0.1\)' is for uploads.*use bf16"):
        load("demo", ["wire.down=topk(0.1)"])
