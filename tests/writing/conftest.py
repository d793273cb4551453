"""Dialogues, texts and a recipe for a language model."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import polyrank

ROWS = [
    {
        "instruction": f"Tell me about {who}.",
        "input": "" if i % 3 else "Be brief.",
        "output": f"{who} had a {thing}. The {thing} was {how}." * (1 + i % 3),
        "category": ("pets", "toys")[i % 2],
    }
    for i, (who, thing, how) in enumerate(
        (who, thing, how)
        for who in ("Lily", "Tom", "Sue", "Ben")
        for thing in ("cat", "ball", "dog", "box")
        for how in ("big", "red", "happy")
    )
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 instructions with responses, in two categories."""
    return written(tmp_path_factory.mktemp("stories") / "stories.jsonl", ROWS)


@pytest.fixture(scope="session")
def tokenizer(llama_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(llama_folder)


@pytest.fixture
def recipe(tmp_path: Path, stories: Path, llama_folder: Path) -> polyrank.Recipe:
    return polyrank.Recipe.model_validate(
        {**made(stories, llama_folder).model_dump(), "output": {"dir": tmp_path / "runs"}}
    )


def made(stories: Path, llama_folder: Path) -> polyrank.Recipe:
    """Eight clients of ranks 1 to 4, one round, a second."""
    return polyrank.Recipe(
        name="stories",
        task="causal-lm",
        model=str(llama_folder),
        data={
            "path": str(stories), "clients": 8, "category": "category", "max_length": 48,
            "partition": "dirichlet(1.0)",
        },
        lora={"targets": ["4.self_attn.v_proj", "4.mlp.down_proj"],
              "ranks": [1, 1, 2, 2, 2, 4, 4, 4]},
        rounds=1,
        local={"steps": 2, "batch": 4, "lr": 1e-2},
        evaluation={"probe": 1, "probe_examples": 4, "clients": 2},
        generation={"samples": 0},
    )  # fmt: skip
