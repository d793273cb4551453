"""Clients' models on the bench: their factors and heads beside the one base that they share."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from polyrank.client.model import Workbench, check_shapes, shapes, zeros
from polyrank.lora.factor import Dense, Factor, Factors
from polyrank.lora.layer import Pair
from polyrank.messages import Sides

NONE: Mapping[str, Tensor] = {}


class Model(NamedTuple):
    """What is one client's own on top of the base.

    Args:
        factors: by layer name; a layer without one, or with rank 0, is left as the base has it.
        dense: by parameter name; one that is not given stays as it is.
        scale: the scale to train at (B is divided accordingly, ΔW stays); default: as it comes.
        core: by layer name, the square matrix between the sides, if any.
    """

    factors: Factors
    dense: Dense = NONE
    scale: float | None = None
    core: Dense = NONE


def several(bench: Workbench) -> bool:
    """Whether models of several clients can be on the bench at once."""
    owners = {name.rpartition(".")[0] for name in bench.head}
    return not bench.train_head or owners <= bench.heads.keys()


def place(
    bench: Workbench,
    factors: Factors,
    dense: Dense = NONE,
    scale: float | None = None,
    core: Dense = NONE,
) -> None:
    """Put one model on the bench, with trainable factors; its dense tensors go into the net.

    Args:
        bench: the base.
        factors, dense, scale, core: as of a `Model`.

    Raises:
        RankError: a name or a shape that this model does not have.
    """
    _put(bench, [Model(factors, dense, scale, core)])
    for layer in bench.heads.values():
        layer.place([], [])
    for name, tensor in dense.items():
        bench.net.get_parameter(name).data.copy_(tensor)


def place_all(bench: Workbench, models: Sequence[Model]) -> None:
    """Put several models on the bench, each with a head of its own; one alone as `place` does.

    Args:
        bench: one for which `several` holds.
        models: those of one rank side by side are computed together.

    Raises:
        RankError: a name or a shape that this model does not have.
    """
    if len(models) == 1:
        place(bench, *models[0])
        return
    _put(bench, models)
    for name, layer in bench.heads.items() if bench.train_head else ():
        found = [_of_head(bench, name, model.dense) for model in models]
        layer.place(*([own[n] for own in found if n in own] for n in ("weight", "bias")))


def seat(bench: Workbench, active: Sequence[int]) -> None:
    """Say of which models on the bench the next batches have rows, one model's after another's."""
    for some in (bench.layers, bench.heads):
        for layer in some.values():
            layer.active = tuple(active)


def placed(bench: Workbench, client: int = 0) -> dict[str, Factor]:
    """The factors that are placed, as the parameters themselves: gradients pass."""
    return {n: Factor(p.a, p.b, p.scale) for n, p in _pairs(bench, client).items()}


def take(bench: Workbench, client: int = 0) -> tuple[dict[str, Factor], dict[str, Tensor]]:
    """Copies of the factors that are placed, and of the tensors that are trained whole."""
    factors = {n: pair.take() for n, pair in _pairs(bench, client).items() if pair.rank}
    return factors, {n: p.detach().clone() for n, p in _dense(bench, client).items()}


def cores(bench: Workbench, client: int = 0) -> dict[str, Tensor]:
    """Copies of the matrices between the sides, where there are any."""
    pairs = _pairs(bench, client).items()
    return {n: pair.core.detach().clone() for n, pair in pairs if pair.core is not None}


def trainable(
    bench: Workbench, train: Sides = "ab", client: int = 0
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Let gradients reach what is trained: (factor parameters, dense parameters), in model order.

    Args:
        bench: with the client's model.
        train: which factors; the others stay as they are placed.
        client: its place on the bench.
    """
    factors = []
    for pair in _pairs(bench, client).values():
        pair.a.requires_grad_(train in ("ab", "a"))
        pair.b.requires_grad_(train in ("ab", "b"))
        parameters = (pair.a, pair.b, *([] if pair.core is None else [pair.core]))
        factors += [p for p in parameters if p.requires_grad and p.numel()]
    dense = list(_dense(bench, client).values())
    for parameter in dense:
        parameter.requires_grad_(True)
    return factors, dense


def head(bench: Workbench) -> dict[str, Tensor]:
    """Copies of the head's tensors, trained or not: what an exported adapter must hold."""
    return {name: bench.net.get_parameter(name).detach().clone() for name in bench.head}


def dense(bench: Workbench) -> dict[str, Tensor]:
    """Copies of the tensors that are trained whole: the head's, or none."""
    return head(bench) if bench.train_head else {}


def _put(bench: Workbench, models: Sequence[Model]) -> None:
    heads = {name: bench.net.get_parameter(name).shape for name in bench.head}
    for model in models:
        check_shapes({n: f.shape for n, f in model.factors.items()}, shapes(bench))
        check_shapes({n: t.shape for n, t in model.dense.items()}, heads)
    for name, layer in bench.layers.items():
        nothing = zeros(layer.shape, 0)
        layer.place(Pair(m.factors.get(name, nothing), m.scale, m.core.get(name)) for m in models)
    seat(bench, range(len(models)))


def _of_head(bench: Workbench, module: str, dense: Dense) -> dict[str, Tensor]:
    """A linear layer's weight and bias: the model's own, else the net's."""
    names = (n for n in bench.head if n.rpartition(".")[0] == module)
    return {n.rpartition(".")[2]: dense.get(n, bench.net.get_parameter(n)) for n in names}


def _pairs(bench: Workbench, client: int) -> dict[str, Pair]:
    return {name: layer.pairs[client] for name, layer in bench.layers.items()}


def _dense(bench: Workbench, client: int) -> dict[str, nn.Parameter]:
    """What is trained whole: the client's own head where there are several, else the net's."""
    found = {}
    for name in bench.head if bench.train_head else ():
        module, _, which = name.rpartition(".")
        own = bench.heads[module].own(client) if module in bench.heads else {}
        found[name] = own.get(which, bench.net.get_parameter(name))
    return found
