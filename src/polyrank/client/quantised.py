"""Linear layers in 8 or 4 bits, by the library bitsandbytes (LLM.int8, arXiv 2208.07339; NF4 of
QLoRA, arXiv 2305.14314).

A layer multiplies with its weight as it comes back from the bits, in training and in evaluation
alike; activations are not rounded.
"""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from polyrank.errors import RecipeError
from polyrank.lora.peft import HEAD_MODULES
from polyrank.recipe.schema import Engine


def arguments(engine: Engine, headed: bool) -> dict[str, Any]:
    """What transformers' `from_pretrained` is told to load such layers.

    Args:
        engine: the recipe's; of a full base nothing is to be told.
        headed: whether the model ends in a classification head, which stays as it is.

    Raises:
        RecipeError: the library is not installed.
    """
    if engine.base == "full":
        return {}
    _check_library(engine.base)
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_8bit=engine.base == "int8",
        load_in_4bit=engine.base == "int4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, engine.dtype),
        llm_int8_skip_modules=list(HEAD_MODULES) if headed else None,
    )
    return {"quantization_config": how, "device_map": {"": "cpu"}}


def steady(net: nn.Module) -> None:
    """Let quantised layers compute in evaluation as they do in training.

    By themselves they would round activations to 8 bits, or weights' scales to bfloat16, there.
    What is not quantised gets memory of its own: the files with all weights need not stay mapped.
    """
    for module in quantised(net):
        module.register_forward_pre_hook(_as_in_training)
    if any(quantised(net)):
        for parameter in net.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.clone()


def quantised(net: nn.Module) -> Iterator[Any]:
    """The layers that are kept so."""
    return (m for m in net.modules() if getattr(m, "source_cls", None) is not None)


def scales(net: nn.Module) -> int:
    """Bytes that quantised layers hold beside their weights."""
    states = [m.weight.quant_state for m in quantised(net) if hasattr(m.weight, "quant_state")]
    fours = sum(t.nbytes for s in states for t in (s.absmax, s.code))
    eights = [m.state.SCB if m.state.SCB is not None else m.weight.SCB
              for m in quantised(net) if hasattr(m, "state")]  # fmt: skip
    return fours + sum(t.nbytes for t in eights)


def moment(net: nn.Module) -> int:
    """Bytes of the largest such weight as it comes back from its bits: it is there for a moment."""
    size = next(net.parameters()).element_size()
    return max((m.in_features * m.out_features * size for m in quantised(net)), default=0)


def _as_in_training(module: Any, args: Collection[Tensor]) -> None:
    # A module-level function, so that copies of the model keep it.
    module.training = True


def _check_library(base: str) -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise RecipeError(
            "engine.base",
            f"{base} needs the library bitsandbytes: pip install 'polyrank[quantised]', or use "
            "full",
        ) from error
