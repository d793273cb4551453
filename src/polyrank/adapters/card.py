"""A model card: what an adapter is made of, by whom, and how well that went, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from polyrank.lora.factor import Factors, parameters
from polyrank.report.records import RunRecords
from polyrank.report.words import count, measured, megabytes, ranges
from polyrank.version import __version__


def card(title: str, base: str | None, parts: Iterable[str], whole: bool = False) -> bytes:
    """The README.md of a folder.

    Args:
        title: its heading.
        base: the base model, by hub name or path.
        parts: paragraphs and tables, in Markdown.
        whole: whether the folder is a whole model, not an adapter.
    """
    head: dict[str, Any] = {"tags": ["polyrank", "lora"]}
    if base:
        head["base_model"] = base
    if not whole:
        head["library_name"] = "peft"
    front = yaml.safe_dump(head, sort_keys=True)
    made = f"Made by polyrank {__version__}."
    text = "\n\n".join([f"# {_inline(title)}", *parts, made])
    return f"---\n{front}---\n\n{text}\n".encode()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; a bar in a cell stays one."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_inline(str(cell)) for cell in line)} |" for line in lines)


def of_factors(factors: Factors) -> str:
    """A sentence on layers, ranks and size."""
    size = sum(map(parameters, factors.values()))
    ranks = ranges(f.rank for f in factors.values())
    return (
        f"{len(factors)} adapted layers of rank {ranks}: {size:,} parameters "
        f"({megabytes(4 * size / 1e6)} MB in float32)."
    )


def of_run(run: RunRecords) -> list[str]:
    """Results, clients, traffic and the recipe of a run."""
    by_rank: dict[int, list[int]] = {}
    for client in run.run["clients"]:
        by_rank.setdefault(client["rank"], []).append(client["examples"])
    up, down = (ways[-1] if ways else 0.0 for ways in (run.up, run.down))
    results = [
        (f"{run.metric.name} before training", measured(run.first_value, run.metric)),
        (run.metric.name, measured(run.value, run.metric)),
        ("rounds", run.done),
        ("uploaded", f"{megabytes(up)} MB"),
        ("downloaded", f"{megabytes(down)} MB"),
        ("seed", run.seed),
    ]
    recipe = yaml.safe_dump(run.run["recipe"], sort_keys=False, allow_unicode=True)
    return [
        f"Federated fine-tuning with `{run.run['recipe']['algorithm']['name']}`.",
        "## Results\n\n" + table(("", ""), results),
        "## Clients\n\n" + table(
            ("rank", "clients", "training examples"),
            [(rank, len(held), sum(held)) for rank, held in sorted(by_rank.items())],
        ),
        f"## Recipe\n\n```yaml\n{recipe}```",
    ]  # fmt: skip


def of_adapters(algorithm: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which adapters were aggregated, and how."""
    return [
        f"The aggregate of {count(len(rows), 'adapter')} with `{algorithm}`, without training.",
        table(
            ("adapter", "rank", "training examples", "weight"),
            [
                (r["adapter"], ranges(r["ranks"]), _known(r["examples"]), f"{r['weight']:.4g}")
                for r in rows
            ],
        ),
    ]


def _known(examples: float | None) -> str:
    return "–" if examples is None else f"{examples:,.0f}"


def _inline(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
