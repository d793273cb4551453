"""What FedHL's experiment was run with: the setting in words, and the learning rates tried."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from polyrank import algorithms
from polyrank.recipe.load import load
from polyrank.report.words import NOTHING, count, listed, percent
from polyrank.reproduce import fedhl, tables
from polyrank.reproduce.grid import Row
from polyrank.reproduce.tables import bold, code, prose


def setting() -> Iterator[str]:
    """What was run, by which command, and where it departs from the paper."""
    recipe = load(fedhl.RECIPE).recipe
    local, equal = recipe.local, [a for a in algorithms.names() if not algorithms.about(a).mixed]
    mixes = [f"{mix} ranks are {ranks.strip('{}')}" for mix, (ranks, _) in fedhl.MIXES.items()]
    means = [f"{mean} ({mix})" for mix, (_, mean) in fedhl.MIXES.items()]
    scales = [_clients(name, *keys) for name, keys in fedhl.SCALES.items()]
    personal = [a for a in algorithms.names() if algorithms.about(a).personal]
    yield "    .venv/bin/polyrank reproduce fedhl"
    yield prose(
        f"Every algorithm on {listed(fedhl.SETS)}, partitions {listed(code(fedhl.PARTITIONS))}, "
        f"{count(len(fedhl.SEEDS), 'seed')}. Cross-{'; cross-'.join(scales)}. "
        f"{'; '.join(mixes)[0].upper()}{'; '.join(mixes)[1:]}. "
        f"{listed(code(equal))} need equal ranks and have the mean, rounded down: "
        f"{listed(means)}; no client of a lower rank could take part. Each "
        "algorithm has its own paper's aggregation weights."
    )
    yield prose(
        "Where this departs from the paper, because two processor cores run all of it: the model "
        "is MiniLM (six layers), with LoRA on "
        f"{listed(code(recipe.lora.targets))}, above the cached activations of the first token, "
        f"so that all below is frozen; {fedhl.TRAIN:,} training and {fedhl.TEST:,} test texts of "
        f"each data set, cut to {recipe.data.max_length} tokens; {recipe.rounds} rounds of "
        f"{local.steps} local steps with batches of {local.batch}; {local.optimizer}, head rate "
        f"{local.head_lr:g}. The head is averaged by data weight under every algorithm. "
        f"{listed(code(personal))} has no global model: its accuracy is its clients' mean."
    )


def rates(
    rows: Sequence[Row],
    labels: Sequence[str] | None = None,
    grid: Sequence[str] = fedhl.RATES,
) -> Iterator[str]:
    """The grid of learning rates: a line per algorithm, the winner in bold once all are tried."""
    shown = {(r["label"], r["cell"]): r["accuracy"] for r in rows if r["part"] == "grid"}
    if not shown:
        yield "Not run yet."
        return
    sets = list(dict.fromkeys(cell.split(" lr ")[0] for _, cell in shown))
    tried = {a: [_mean([shown.get((a, f"{name} lr {rate}")) for name in sets])
                 for rate in grid] for a in labels or algorithms.names()}  # fmt: skip
    best = {a: rate for a, rate in fedhl.winners(rows).items() if None not in tried.get(a, [None])}
    edge = [a for a, rate in best.items() if rate in (grid[0], grid[-1])]
    left = [a for a in tried if a not in best]
    yield prose(
        f"One grid for all, {fedhl.SCALES['silo'][0].split('=')[1]} clients with harsh ranks, on a "
        f"validation split of the training data of {listed(sets)} under seed {fedhl.TUNING}, "
        "which no other run has: accuracy in %, mean over the data sets, the winner in bold."
        + (f" At the grid's edge, where a rate beyond might do better: {listed(code(edge))}."
           if edge else "")
        + (f" Not finished: {listed(code(left))}." if left else "")
    )  # fmt: skip
    yield tables.table(["algorithm", *grid], (_tried(a, tried[a], best, grid) for a in tried))


def _tried(
    label: str, means: Sequence[float | None], best: dict[str, str], grid: Sequence[str]
) -> list[str]:
    told = [NOTHING if m is None else f"{100 * m:.1f}" for m in means]
    won = [rate == best.get(label) for rate in grid]
    return [f"`{label}`", *map(bold, told, won)]


def _mean(values: Sequence[float | None]) -> float | None:
    """Of all the data sets, or nothing where one is missing."""
    known = [v for v in values if v is not None]
    return fmean(known) if len(known) == len(values) else None


def _clients(scale: str, clients: str, participation: str) -> str:
    number, share = (text.partition("=")[2] for text in (clients, participation))
    return f"{scale}: {number} clients, {percent(float(share), 0)} of them a round"
