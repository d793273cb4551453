"""Run records with the shape of real ones, drawn from a generator: data for the tests."""

import numpy as np

from polyrank.report.records import RunRecords

CLASSES = ["python", "torch", "numpy", "scipy", "sympy"]
LAYERS = [f"encoder.layer.{n}.attention.self.{part}" for n in (0, 1) for part in ("query", "value")]


def run_records(
    label="fedhl", seed=0, clients=4, rounds=3, peak=0.6, name="demo", finished=True, **options
):
    """A run whose accuracy climbs to about `peak`; see `run_record` and `round_record`."""
    draw = np.random.default_rng([seed, *label.encode()])
    run = run_record(label, seed, clients, rounds, name, **options)
    done = [round_record(t, run, draw, peak) for t in range(rounds + 1)]
    final = final_record(run, done[-1]["test"], draw) if finished else None
    return RunRecords(run, tuple(done), final)


def run_record(label="fedhl", seed=0, clients=4, rounds=3, name="demo", classes=CLASSES):
    draw = np.random.default_rng(seed)
    labels = [draw.multinomial(80, draw.dirichlet([0.4] * len(classes))) for _ in range(clients)]
    ranks = [[2, 4, 8, 16][i % 4] for i in range(clients)]
    return {
        "kind": "run",
        "name": name,
        "label": label,
        "seed": seed,
        "recipe": {
            "name": name,
            "model": "minilm",
            "data": {"name": "docstrings", "partition": "dirichlet(0.4)", "clients": clients},
            "algorithm": {"name": label},
            "lora": {"ranks": ranks},
            "rounds": rounds,
            "evaluation": {"target": 0.5},
            "seed": seed,
        },
        "versions": {"polyrank": "0.1.0", "torch": "2.13.0", "python": "3.11.7"},
        "machine": {"cores": 2, "threads": 2},
        "data": {"source": "docstrings", "examples": 80 * clients},
        "classes": list(classes),
        "clients": [
            {"id": str(i), "rank": ranks[i], "examples": 80, "labels": labels[i].tolist()}
            for i in range(clients)
        ],
        "idle": [],
        "parameters": {"head": 3850},
    }


def round_record(t, run, draw, peak=0.6):
    accuracy = peak - (peak - 0.1) * 0.75**t + draw.normal(0, 0.01)
    clients = [_trained(c, t, run, draw) for c in run["clients"]] if t else []
    values = (1 + t) * np.exp(-np.arange(16) / (2 + t / 3))
    share = values / values.sum()
    effective = float(np.exp(-(share * np.log(share)).sum()))
    return {
        "kind": "round",
        "round": t,
        "clients": clients,
        "left_out": [],
        "test": {"loss": float(2.2 * (1.05 - accuracy)), "accuracy": float(accuracy)},
        "probes": [_probe(clients[-1], accuracy, draw)] if t else [],
        "info": _info(clients) if run["label"].startswith("fedhl") and t else {},
        "spectrum": {
            "values": values.tolist(),
            "effective_rank": effective,
            "layers": {layer: effective + i / 2 for i, layer in enumerate(LAYERS)},
        },
        "seconds": 1.5,
        "unchanged": False,
    }


def final_record(run, test, draw):
    clients = [
        {
            "id": c["id"],
            "rank": c["rank"],
            "accuracy": float(test["accuracy"] - 0.1 / c["rank"] + draw.normal(0, 0.01)),
            "own_accuracy": float(min(1.0, test["accuracy"] + 0.1 / c["rank"])),
            "loss": float(test["loss"]),
        }
        for c in run["clients"]
    ]
    return {"kind": "final", "test": test, "clients": clients, "seconds": 42.5}


def _trained(client, t, run, draw):
    size, down = 3000 * client["rank"], 40 if run["label"] == "flora" else 1
    return {
        "id": client["id"],
        "rank": client["rank"],
        "examples": client["examples"],
        "loss": float(2 * 0.8**t + draw.normal(0, 0.02)),
        "seconds": 0.3,
        "weight": float(draw.dirichlet([9] * len(run["clients"]))[0]),
        "up": {"total": size + 15400 + 900, "factors": size, "dense": 15400},
        "down": {"total": size * down + 15400 + 900, "factors": size * down, "dense": 15400},
    }


def _info(clients):
    weights = [c["weight"] for c in clients]
    return {
        "weights": {c["id"]: c["weight"] for c in clients},
        "dilution": [
            sum(c["weight"] for c in clients if c["rank"] > j) / sum(weights)
            for j in range(max(c["rank"] for c in clients))
        ],
        "n_eff": sum(weights) ** 2 / sum(w * w for w in weights),
        "drift": 0.1 / len(clients),
        "truncation": {c["id"]: 1 / (1 + c["rank"]) for c in clients},
    }


def _probe(client, accuracy, draw):
    before = float(accuracy + draw.uniform(0.0, 0.2))
    return {"id": client["id"], "rank": client["rank"], "before": before, "after": float(accuracy)}
