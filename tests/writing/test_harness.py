"""The loss of a run's held-out texts as another program computes it, from the exported model."""

import importlib.util
import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import polyrank
from polyrank.adapters.exporting import Asked, export

EXAMPLE = Path(__file__).parents[2] / "examples/lm_eval_task.py"


@pytest.fixture
def merged(recipe: polyrank.Recipe) -> tuple[polyrank.Result, Path]:
    """A run on plain texts that are not cut, and its model with the update in it."""
    data = {**recipe.data.model_dump(), "fields": {"text": "output"}, "format": "text"}
    told = {**recipe.model_dump(), "data": {**data, "max_length": 128}}
    result = polyrank.run(polyrank.Recipe.model_validate(told))
    out = result.folder.parent / "merged"
    export(Asked(result.folder, out, merge=True))
    return result, out


def task(folder: Path) -> tuple[list[dict[str, Any]], Path]:
    out = folder / "task"
    rows: list[dict[str, Any]] = runpy.run_path(str(EXAMPLE))["write"](folder, out)
    return rows, out


def test_a_task_s_rows_have_the_loss_of_the_record(merged: tuple[polyrank.Result, Path]) -> None:
    """Tokenised as the harness does it: prompt and response together, cut where the prompt ends."""
    result, folder = merged
    rows, out = task(result.folder)
    assert list(map(json.loads, (out / "held-out.jsonl").read_text().splitlines())) == rows
    net = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total = 0.0
    for row in rows:
        before, ids = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (row["prompt"].rstrip(), row["prompt"] + row["response"])
        )
        assert row["tokens"] == len(ids) - len(before)
        with torch.no_grad():
            logits = net(torch.tensor([ids])).logits[0, len(before) - 1 : -1].log_softmax(-1)
        total -= float(logits.gather(1, torch.tensor(ids[len(before) :])[:, None]).sum())
    assert total / sum(row["tokens"] for row in rows) == pytest.approx(
        result.records.value, rel=1e-5
    )


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="an environment of its own")
def test_the_harness_finds_the_perplexity_of_the_record(
    merged: tuple[polyrank.Result, Path], tmp_path: Path
) -> None:
    result, folder = merged
    _, out = task(result.folder)
    command = ["lm_eval", "--model", "hf", "--model_args", f"pretrained={folder}"]
    where = ["--include_path", out, "--tasks", "held-out", "--device", "cpu"]
    subprocess.run(
        [sys.executable, "-m", *command, *where, "--output_path", tmp_path / "told"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=True, cwd=tmp_path,
    )  # fmt: skip
    (told,) = (tmp_path / "told").rglob("results*.json")
    found = json.loads(told.read_text())["results"]["held-out"]["perplexity_by_token,none"]
    assert found == pytest.approx(math.exp(result.records.value), rel=1e-5)
