"""`polyrank export`: a result as an adapter of the rank that is wanted, or as a whole model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from polyrank.adapters import card, cutting, merging
from polyrank.adapters.opened import narrow, opened, run_of, wide
from polyrank.adapters.writing import claim, write_adapter
from polyrank.errors import AdapterError, nearest
from polyrank.lora.algebra import truncate
from polyrank.lora.factor import Factors
from polyrank.lora.incoming import Incoming
from polyrank.lora.peft import Told
from polyrank.report import records
from polyrank.report.words import listed, ranges

# What vLLM takes as max_lora_rank (MaxLoRARanks in its configuration).
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class Asked(NamedTuple):
    """What the user asks for; each as of the option of its name."""

    source: Path
    out: Path
    rank: int | None = None
    energy: float | None = None
    full: bool = False
    merge: bool = False
    engine: str | None = None
    overwrite: bool = False


class Cut(NamedTuple):
    """The update as it goes out, and what to say of it."""

    factors: Factors
    line: str


def export(asked: Asked) -> list[str]:
    """Write a result in the form that is asked for; what to tell the user, a line each.

    Raises:
        PolyrankError: no such result, or not in that form.
    """
    _check(asked)
    claim(asked.out, asked.overwrite, (asked.source,))
    one = opened(asked.source)
    claim(asked.out, asked.overwrite, (one.path,))
    if asked.engine is not None:
        _check_served(one)
    cut = _cut(asked, cutting.ordered(wide(one.adapter.factors)))
    made = {"command": "export", "source": str(asked.source), "examples": one.facts.get("examples")}
    write = _write_model if asked.merge else _write_adapter
    return [cut.line, write(asked, one, cut, made), *(_whole_again(asked) if asked.merge else ())]


def served(rank: int) -> int:
    """The smallest rank that vLLM takes and that holds this one.

    Raises:
        AdapterError: there is none.
    """
    for allowed in VLLM_RANKS:
        if allowed >= rank:
            return allowed
    raise AdapterError(
        f"rank {rank} is more than vLLM takes ({VLLM_RANKS[-1]}); give a smaller --rank, or --merge"
    )


def _check(asked: Asked) -> None:
    ways = {"--rank": asked.rank is not None, "--energy": asked.energy is not None,
            "--full": asked.full}  # fmt: skip
    given = [name for name, wanted in ways.items() if wanted]
    if len(given) > 1:
        raise AdapterError(f"{listed(given)} say different things; keep one of them")
    if not given and not asked.merge:
        raise AdapterError("say what to export: --rank 16, --energy 0.95, --full or --merge")
    if asked.engine is not None and asked.engine != "vllm":
        raise AdapterError(f"--for {asked.engine!r} is unknown; {nearest(asked.engine, ['vllm'])}")
    if asked.engine is not None and asked.merge:
        raise AdapterError("--for vllm is about adapters; a merged model needs no form of its own")


def _check_served(one: Incoming) -> None:
    if one.adapter.dense:
        raise AdapterError(
            f"{one.path} keeps {', '.join(sorted(one.adapter.dense)[:3])} whole, which vLLM does "
            "not serve beside an adapter; use --merge"
        )


def _cut(asked: Asked, update: cutting.Ordered) -> Cut:
    """The update at the rank that was asked for."""
    rank = max(update.rank, 1)
    if asked.rank is not None:
        cutting.check(update, rank := asked.rank)
    elif asked.energy is not None:
        rank = cutting.rank_for(update, asked.energy)
    if asked.engine is not None:
        rank = served(rank)
    factors = {n: truncate(f, rank) for n, f in update.factors.items()}
    if asked.engine is not None:
        factors = cutting.padded(factors, rank)
    return Cut(factors, cutting.told(update, rank))


def _write_adapter(asked: Asked, one: Incoming, cut: Cut, made: Mapping[str, Any]) -> str:
    adapter = narrow(cutting.filled(cut.factors), one.adapter.dense.items())
    parts = [cut.line + ".", card.of_factors(adapter.factors), *_origin(asked)]
    text = card.card(asked.out.name, one.base, parts)
    write_adapter(asked.out, adapter, Told.of(one), made, text)
    ranks = ranges(f.rank for f in adapter.factors.values())
    return f"adapter: {len(adapter.factors)} layers of rank {ranks} in {asked.out}"


def _write_model(asked: Asked, one: Incoming, cut: Cut, made: Mapping[str, Any]) -> str:
    run = run_of(asked.source)
    classes = records.load(run.records).run["classes"] if run else []
    name = records.load(run.records).run["recipe"]["model"] if run else one.base
    if name is None:
        raise AdapterError(f"{one.path} does not say which base it adapts: nothing to merge it in")
    parts = [cut.line + ".", *_origin(asked)]
    text = card.card(asked.out.name, one.base, parts, whole=True)
    merging.merge(asked.out, one, cut.factors, merging.Base(name, tuple(classes)), made, text)
    return f"model: {name} with the update in it, in {asked.out}"


def _whole_again(asked: Asked) -> list[str]:
    """That the update was learned beside another base than the one that it is merged into."""
    run = run_of(asked.source)
    base = records.load(run.records).run["recipe"]["engine"].get("base", "full") if run else "full"
    if base == "full":
        return []
    return [
        f"note: trained on the base in {base}, merged into the base as its files have it; load the "
        "adapter on a base in the same bits for the model that was measured"
    ]


def _origin(asked: Asked) -> list[str]:
    run = run_of(asked.source)
    if run is None:
        return [f"Made of the adapter `{asked.source.name}`."]
    return card.of_run(records.load(run.records))
