"""A run's held-out examples as a task of lm-evaluation-harness: the loss by another program.

    python examples/lm_eval_task.py runs/bard task
    polyrank export runs/bard --merge --out bard
    lm_eval --model hf --model_args pretrained=bard --include_path task --tasks held-out

A row holds what the model reads, as the run's own template writes it, the answer, and of how many
tokens that is. The mean over all tokens is the run's loss where nothing is cut: harness and run
differ in what they do with texts that are too long. The harness also moves white space at the end
of a prompt into the answer.
"""

import json
import sys
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from polyrank.client.pretrained import located
from polyrank.data import source
from polyrank.data.templates import asked, choose, rendered
from polyrank.experiment.folder import opened
from polyrank.recipe.load import load

ROWS, RULES, FUNCTIONS = "held-out.jsonl", "held-out.yaml", "held_out.py"
TASK = """\
task: held-out
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{response}}}}"
target_delimiter: ""
process_results: !function held_out.by_token
metric_list:
  - {{metric: perplexity_by_token, aggregation: weighted_perplexity, higher_is_better: false}}
"""
BY_TOKEN = '''\
"""Perplexity over all tokens, not the mean over examples."""


def by_token(doc, results):
    loglikelihood, greedy = results[0]
    return {"perplexity_by_token": (loglikelihood, doc["tokens"])}
'''


def write(run: Path, out: Path) -> list[dict[str, Any]]:
    """Write the task; its rows.

    Args:
        run: the folder of a run of task causal-lm.
        out: the task's folder.
    """
    recipe = load(opened(run).recipe).recipe
    tokenizer = AutoTokenizer.from_pretrained(located(recipe.model))
    dialogues: Any = source.load(recipe.data, recipe.seed, recipe.task).test.texts
    template = choose(tokenizer, recipe.data.template, dialogues)
    rows = []
    for dialogue in dialogues:
        prompt = asked(tokenizer, template, dialogue)
        whole, _ = rendered(tokenizer, template, dialogue)
        before, both = (len(_ids(tokenizer, text)) for text in (prompt.rstrip(), whole))
        rows.append({"prompt": prompt, "response": whole[len(prompt) :], "tokens": both - before})
        if both > recipe.data.max_length:
            raise SystemExit(f"an example has {both} tokens: set data.max_length, train again")
    out.mkdir(parents=True, exist_ok=True)
    place = (out / ROWS).resolve()
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / RULES).write_text(TASK.format(rows=json.dumps(str(place))))
    (out / FUNCTIONS).write_text(BY_TOKEN)
    return rows


def _ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


if __name__ == "__main__":
    made = write(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{len(made)} examples, {sum(row['tokens'] for row in made):,} tokens")
