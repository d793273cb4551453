"""Laws on the toy problem: how singular values of an unmoved state decay, and who is exact.

decay        idle clients: σ_j(t) = P_j^{kt} σ_j(0);  k = 0: unbiased, 1: flexlora, 2: zero-pad
exactness    ΔW_t = ΔW_0 + Σ_{s<t} Σ_i p_i (what client i ended with − what it began with)
"""

from dataclasses import replace
from typing import Any

import torch

from polyrank.algorithms import about, names
from polyrank.lora.algebra import resize
from polyrank.lora.spectral import factored, singular_values
from polyrank.reproduce.toy import LAYER, Setting, problem
from polyrank.reproduce.toy_runs import Method, plan_of, steps

POWERS = {"flexlora": 1, "zero-pad": 2, "raflora": 0, "replicate": 0, "fedhl": 0, "catchup": 0}


def decay(setting: Setting, rounds: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Singular values of a state whose clients change nothing, against P_j^{kt}.

    Returns:
        Per algorithm its k, the largest error of σ_j(t)/σ_j(0) over all slots that somebody
        holds, and a row per partition of the rank: slot, P_j, measured, predicted.
    """
    return [_decayed(name, power, setting, rounds, seed) for name, power in POWERS.items()]


def exactness(setting: Setting, rounds: int = 5, seed: int = 0, lr: float = 0.05) -> list[Any]:
    """How far each algorithm that says it is exact is from the dense sum of its clients' changes.

    Returns:
        Per algorithm the relative error ‖ΔW − reference‖/‖reference‖ of the first round, and the
        largest of the later ones with the state after the first as their start: fed-sb finds its
        frozen sides in the first round, a best approximation.
    """
    exact = [name for name in names() if about(name).exact]
    return [_exact(name, setting, rounds, seed, lr) for name in exact]


def _decayed(name: str, power: int, setting: Setting, rounds: int, seed: int) -> dict[str, Any]:
    of, plan = problem(setting, seed), plan_of(Method(name), setting, seed, rounds)
    top = max(setting.ranks)
    known = resize(factored(of.optimum), top)
    state = plan.algorithm.init(plan.template, seed)
    begun = replace(state, **{"delta" if hasattr(state, "delta") else "factors": {LAYER: known}})
    *_, last = steps(plan, of, setting, 0.0, begun)
    before, after = (singular_values(f)[:top] for f in (known, factored(last.model)))
    held = [sum(r > j for r in setting.ranks) / len(setting.ranks) for j in range(top)]
    told = [p ** (power * rounds) for p in held]
    measured = (after / before).tolist()
    first = sorted({0, *(r for r in setting.ranks if r < top)})  # slots where P changes
    rows = [
        {"slot": j + 1, "held": held[j], "measured": measured[j], "predicted": told[j]}
        for j in first
    ]
    worst = max(abs(x - y) for x, y in zip(measured, told, strict=True))
    return {"name": name, "power": power, "rounds": rounds, "error": worst, "rows": rows}


def _exact(name: str, setting: Setting, rounds: int, seed: int, lr: float) -> dict[str, Any]:
    of, plan = problem(setting, seed), plan_of(Method(name), setting, seed, rounds)
    reference = torch.zeros_like(of.optimum)
    errors = []
    for step in steps(plan, of, setting, lr):
        for id, p in step.info["weights"].items():
            reference = reference + p * (step.traces[id].ended - step.traces[id].begun)
        errors.append(float((step.model - reference).norm() / reference.norm()))
        if len(errors) == 1:
            reference = step.model
    return {"name": name, "rounds": rounds, "first": errors[0], "later": max(errors[1:])}
