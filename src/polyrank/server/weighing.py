"""How much each client of a round counts, and what that says of the round.

N_eff = 1/Σ p_i²        P_j = Σ_{i: r_i ≥ j} p_i        bound = Σ p_i² E_i
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyrank.algorithm import Held, Info
from polyrank.lora.algebra import energy
from polyrank.lora.factor import Factors
from polyrank.messages import Client, Upload
from polyrank.server.held import drift, errors
from polyrank.weights import effective_number, rule, size


@dataclass(frozen=True, slots=True)
class Weighing:
    """A round's aggregation weights, as far as they are known before the clients have trained.

    Args:
        text: what the recipe says: data, uniform, norm, regularised(1)…
        models: by client, what it holds before it trains.
        energies: ‖ΔW_t‖² by layer.
        errors: by client and layer, its truncation error E.
        overall: by client, the weight that follows from E, where it does.
        by_layer: by client and layer, the same for each layer alone.
    """

    text: str
    models: Mapping[str, Held]
    energies: Mapping[str, float]
    errors: Mapping[str, Mapping[str, float]]
    overall: Mapping[str, float]
    by_layer: Mapping[str, Mapping[str, float]]

    def __call__(self, upload: Upload) -> Upload:
        """The upload with its weight."""
        id = upload.client.id
        if self.text == "uniform":
            return replace(upload, weight=1.0)
        if self.text == "norm":
            return replace(upload, weight=max(size(upload.factors), 1e-12))
        return replace(upload, weight=self.overall.get(id), by_layer=self.by_layer.get(id, {}))


def weighing(
    text: str,
    per_layer: bool,
    clients: Sequence[Client],
    models: Mapping[str, Held],
    state: Factors,
) -> Weighing:
    """The weights of the clients that are asked, from their data and their truncation errors.

    Args:
        text: what the recipe says.
        per_layer: whether each layer is weighed by its own E.
        clients: who is asked.
        models: by client, what it holds before it trains; none where the server cannot know.
        state: what the server holds.
    """
    energies = {n: float(energy(f)) for n, f in state.items()}
    found = _errors(models, state, energies)
    weigh = rule(text)
    if weigh is None or not found:
        return Weighing(text, models, energies, found, {}, {})
    shares = [float(max(c.examples, 1)) for c in clients]
    q = [share / sum(shares) for share in shares]

    def weights(of: Sequence[float]) -> dict[str, float]:
        return dict(zip([c.id for c in clients], weigh(q, of), strict=True))

    overall = weights([sum(found[c.id].values()) for c in clients])
    layers = {n: weights([found[c.id][n] for c in clients]) for n in (state if per_layer else ())}
    by_layer = {c.id: {n: p[c.id] for n, p in layers.items()} for c in clients}
    return Weighing(text, models, energies, found, overall, by_layer)


def _errors(
    models: Mapping[str, Held], state: Factors, energies: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """E by client and layer; clients that hold the very same factors are measured once."""
    known: dict[tuple[int, ...], dict[str, float]] = {}
    found = {}
    for id_, model in models.items():
        same = tuple(id(f) for terms in model.values() for f in terms)
        if same not in known:
            known[same] = errors(model, state, energies)
        found[id_] = known[same]
    return found


def told(weighing: Weighing, counted: Sequence[Upload], state: Factors) -> Info:
    """A round's diagnostics as JSON: weights, N_eff, dilution, and E and drift where known.

    Args:
        weighing: the round's.
        counted: the uploads that counted; their tensors are not read.
        state: what the server held before the round.
    """
    if not counted:
        return {}
    raw = [float(u.examples) if u.weight is None else u.weight for u in counted]
    p = [w / sum(raw) for w in raw]
    ids = [u.client.id for u in counted]
    n_eff = effective_number(p)
    top = max(u.client.rank for u in counted)
    holders = [sum(w for w, u in zip(p, counted, strict=True) if u.client.rank > j)
               for j in range(top)]  # fmt: skip
    info: dict[str, object] = {
        "weights": dict(zip(ids, p, strict=True)),
        "n_eff": n_eff,
        "dilution": holders,
    }
    if weighing.errors:
        truncation = {id: sum(weighing.errors[id].values()) for id in ids}
        info["truncation"] = truncation
        info["bound"] = sum(w**2 * truncation[id] for w, id in zip(p, ids, strict=True))
        info["drift"] = drift([weighing.models[id] for id in ids], p, state, weighing.energies)
    if n_eff < len(p) / 4:
        few = f"the weights amount to {n_eff:.1f} of {len(p)} clients"
        info["warning"] = f"{few}; aggregation.weights=regularised is steadier"
    return info
