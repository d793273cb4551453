"""What the global model writes on held-out prompts, for the records."""

from polyrank.client.answering import answers, likelihoods, question
from polyrank.data.templates import asked, choose
from polyrank.evaluate import put
from polyrank.experiment.judging import exact_match, right_choices, rouge_l
from polyrank.experiment.run import Run
from polyrank.lora.factor import Adapter
from polyrank.report.format import Generated, Sample


def generated(run: Run) -> Generated | None:
    """Answers and what they are worth; None where none are asked for.

    Of personal models there is no global one that could answer.
    """
    how, dialogues = run.recipe.generation, run.setup.asked
    if not dialogues or run.personal:
        return None
    bench, batch = run.setup.bench, run.recipe.evaluation.batch
    put(bench, Adapter(run.plan.algorithm.read(run.federation.state), run.federation.dense))
    template = choose(bench.tokenizer, run.recipe.data.template, dialogues)
    questions, references = zip(*map(question, dialogues), strict=True)
    prompts = [asked(bench.tokenizer, template, q) for q in questions]
    judged = {"exact-match", "rouge-l"} & set(how.metrics)
    count = len(prompts) if judged else how.samples
    written = answers(bench, prompts[:count], how.tokens, batch)
    found: dict[str, float] = {}
    if "exact-match" in how.metrics:
        found["exact-match"] = exact_match(written, references, how.answer)
    if "rouge-l" in how.metrics:
        found["rouge-l"] = rouge_l(written, references)
    if "choice" in how.metrics:
        right = right_choices(how.choices, references)
        best = likelihoods(bench, template, questions, how.choices, batch).argmax(dim=1).tolist()
        hits = [a == b for a, b in zip(best, right, strict=True) if b is not None]
        found["choice"] = sum(hits) / len(hits)
    shown = list(zip(prompts, references, written, strict=False))[: how.samples]
    samples = [Sample(prompt=p, reference=r, answer=a) for p, r, a in shown]
    return {"metrics": found, "examples": len(prompts), "samples": samples}
