"""An adapter in a model's own weights: W ← W + s·B A, and the modules that it keeps whole."""

from typing import Any

from torch import Tensor

from polyrank.errors import RankError
from polyrank.lora.factor import Adapter, Dense, Factor
from polyrank.lora.layer import shape, transposed
from polyrank.lora.targets import adaptable


def add(net: Any, adapter: Adapter) -> None:
    """Add every update to its layer, and replace what is kept whole.

    The sum is one of float64, rounded once to what the weights are in.

    Args:
        net: a model, whose weights are changed.
        adapter: factors of any ranks, and tensors kept whole.

    Raises:
        RankError: naming the first layer or tensor that does not fit.
    """
    for name, factor in adapter.factors.items():
        _add(net, name, factor)
    put(net, adapter.dense)


def fitting(net: Any, name: str, factor: Factor) -> Any:
    """The linear layer that an update is of.

    Raises:
        RankError: there is none, or it has another shape.
    """
    module = dict(net.named_modules()).get(name)
    if module is None or not adaptable(module):
        raise RankError(f"the model has no linear layer {name!r}")
    if shape(module) != factor.shape:
        raise RankError(
            f"layer {name!r} has shape {factor.shape}, but {shape(module)} in the model"
        )
    return module


def put(net: Any, dense: Dense) -> None:
    """Replace the tensors that an adapter keeps whole.

    Raises:
        RankError: naming the first one that does not fit.
    """
    for name, tensor in dense.items():
        _put(net, name, tensor)


def _add(net: Any, name: str, factor: Factor) -> None:
    module = fitting(net, name, factor)
    if not module.weight.is_floating_point():
        raise RankError(f"layer {name!r} of the model is quantised, and takes no update")
    delta = Factor(factor.a.double(), factor.b.double(), factor.scale).delta
    module.weight.data.copy_(module.weight.double() + (delta.T if transposed(module) else delta))


def _put(net: Any, name: str, tensor: Tensor) -> None:
    parameter = dict(net.named_parameters()).get(name)
    if parameter is None:
        raise RankError(f"the model has no parameter {name!r}")
    if parameter.shape != tensor.shape:
        raise RankError(
            f"{name!r} has shape {tuple(tensor.shape)}, but {tuple(parameter.shape)} in the model; "
            "a head is for a number of classes"
        )
    parameter.data.copy_(tensor)
