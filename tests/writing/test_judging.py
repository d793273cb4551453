"""What an answer is worth: by its result, its words, and the choice that is likeliest."""

import math
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

import polyrank
from polyrank.client.answering import answers, likelihoods, question
from polyrank.client.model import load
from polyrank.client.placing import place
from polyrank.data.templates import Template, asked, choose
from polyrank.errors import RecipeError
from polyrank.experiment.judging import exact_match, extracted, right_choices, rouge_l
from polyrank.recipe.generation import Generation
from polyrank.recipe.schema import Lora
from polyrank.report import page, records
from tests.writing.conftest import made

GSM8K = Generation().answer
TURNS = (("user", "Tell me about Tom."), ("assistant", "Tom had a cat."))


def test_the_result_in_an_answer() -> None:
    assert extracted("48/2 = 24\n#### 72", GSM8K) == "72"
    assert extracted("#### 1\nno:\n####  1,234,567.", GSM8K) == "1234567"
    assert extracted("it is 72", GSM8K) is None
    assert extracted("The answer is B.", r"answer is (\w)") == "B"
    found = exact_match(["#### 72", "#### 7", "72", "#### 1000"],
                        ["#### 72", "#### 72", "#### 72", "so #### 1,000"], GSM8K)  # fmt: skip
    assert found == 0.5
    with pytest.raises(RecipeError, match=r"generation\.answer: .* finds nothing in held-out"):
        exact_match(["72"], ["72"], GSM8K)


def test_rouge_l_is_the_librarys() -> None:
    pytest.importorskip("rouge_score")
    assert rouge_l(["a cat sat here"], ["a cat sat there"]) == pytest.approx(0.75)
    assert rouge_l(["a cat", "x"], ["a cat", "y"]) == pytest.approx(0.5)


def test_rouge_l_without_its_library_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(RecipeError, match=r"pip install 'polyrank\[rouge\]'"):
        rouge_l(["a"], ["a"])


def test_the_right_choice_is_the_longest_beginning() -> None:
    choices = ("A", "The answer is: B", "The answer is: BB", "C")
    texts = ["The answer is: BB. x", "The answer is: B", " A", "nothing"]
    assert right_choices(choices, texts) == [2, 1, 0, None]
    with pytest.raises(RecipeError, match=r"generation\.choices: no held-out response begins"):
        right_choices(choices, ["nothing"])


def test_a_text_is_asked_for_its_second_half() -> None:
    assert question(TURNS) == ((TURNS[0], ("assistant", "")), TURNS[1][1])
    asked_for, rest = question((("completion", "one two three four"),))
    assert asked_for == (("prompt", "one two"), ("completion", ""))
    assert rest == " three four"


@pytest.fixture(scope="module")
def bench(llama_folder: Path) -> object:
    found = load(str(llama_folder), ("all",), Lora(targets=("q_proj",)), 0, "causal-lm")
    place(found, {})
    return found


def test_answers_of_several_at_once_are_those_of_each_alone(bench, llama_folder: Path) -> None:
    net = AutoModelForCausalLM.from_pretrained(llama_folder)
    prompts = ["<s>Once upon a time", "<s>Tom", "<s>The cat was big and it"]
    wanted = []
    for prompt in prompts:
        ids = bench.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        told = net.generate(**ids, max_new_tokens=12, do_sample=False)
        new = told[0, ids["input_ids"].shape[1] :]
        wanted.append(bench.tokenizer.decode(new, skip_special_tokens=True))
    for batch in (1, 2, 3):
        assert answers(bench, prompts, 12, batch) == wanted
    assert len(answers(bench, ["<s>" + "word " * 600], 5, 1)) == 1  # longer than the context


def test_likelihoods_are_sums_of_log_probabilities(
    bench, tokenizer: PreTrainedTokenizerBase
) -> None:
    template: Template = choose(tokenizer, "alpaca", [TURNS])
    choices = ("Tom had a cat", "Tom", "had")
    found = likelihoods(bench, template, [question(TURNS)[0]], choices, 2)
    prompt = asked(tokenizer, template, question(TURNS)[0])
    for choice, value in zip(choices, found[0], strict=True):
        ids = tokenizer(prompt + choice, add_special_tokens=False)["input_ids"]
        before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logs = bench.net(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        wanted = sum(logs[t - 1, ids[t]] for t in range(before, len(ids)))
        assert float(value) == pytest.approx(float(wanted), abs=1e-4)


def test_a_run_records_and_reports_what_it_writes(
    recipe: polyrank.Recipe, stories: Path, llama_folder: Path
) -> None:
    how = {"metrics": ["choice", "exact-match"], "examples": 4, "samples": 2, "tokens": 6,
           "choices": ["Lily", "Tom", "Sue", "Ben"], "answer": r"had a (\w+)"}  # fmt: skip
    own = made(stories, llama_folder).model_dump()
    own |= {"generation": how, "output": recipe.output.model_dump()}
    result = polyrank.run(polyrank.Recipe.model_validate(own))
    told = [result.records.rounds[0]["generated"], result.records.final["generated"]]
    for one in told:
        assert one["examples"] == 4
        assert len(one["samples"]) == 2
        assert one["metrics"].keys() == {"choice", "exact-match"}
        assert all(0 <= v <= 1 for v in one["metrics"].values())
    text = (result.folder / "report.html").read_text()
    assert "What the model writes" in text
    assert "choice, after" in text
    loss = result.records.value
    assert f"{loss:.4f} loss per token on the test set" in text
    assert f"{math.exp(loss):.4g}" in text
    assert page.page([records.load(result.folder)]) == text


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"metrics": ["blue"]}, "is unknown; valid: choice, exact-match, rouge-l"),
        ({"metrics": ["choice"], "choices": ["A"]}, "two or more are due for the metric choice"),
        ({"answer": "("}, "is not a regular expression"),
        ({"answer": "x"}, "needs one group in brackets"),
    ],
)
def test_what_cannot_be_judged(generation: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        polyrank.Recipe(task="causal-lm", generation=generation)
