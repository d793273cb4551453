"""How good answers are: the same result, a common subsequence of words, the right choice.

ROUGE-L F1 = 2PR/(P + R),  P and R the longest common subsequence over the words of the answer and
of the reference (Lin, 2004), by the library rouge-score
"""

import re
from collections.abc import Sequence

from polyrank.errors import RecipeError


def extracted(text: str, pattern: str) -> str | None:
    """What the pattern's group last finds in a text, without commas in numbers; None for nothing.

    "so she has 1,200 clips.\\n#### 1,200" gives "1200" under the default.
    """
    found = re.findall(pattern, text)
    if not found:
        return None
    answer = str(found[-1]).strip().rstrip(".")
    return re.sub(r"(?<=\d),(?=\d)", "", answer)


def exact_match(answers: Sequence[str], references: Sequence[str], pattern: str) -> float:
    """The share of answers in which the pattern finds what it finds in the reference.

    Raises:
        RecipeError: it finds nothing in any reference.
    """
    wanted = [extracted(text, pattern) for text in references]
    if not any(wanted):
        raise RecipeError("generation.answer", f"{pattern!r} finds nothing in held-out responses")
    pairs = zip(answers, wanted, strict=True)
    right = [one is not None and extracted(text, pattern) == one for text, one in pairs]
    return sum(right) / len(right)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """The mean ROUGE-L F1 of answers.

    Raises:
        RecipeError: the library is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer  # an extra
    except ImportError as error:
        remedy = "rouge-l needs rouge-score: pip install 'polyrank[rouge]'"
        raise RecipeError("generation.metrics", remedy) from error
    scorer = RougeScorer(["rougeL"])
    pairs = zip(references, answers, strict=True)
    found = [float(scorer.score(wanted, given)["rougeL"].fmeasure) for wanted, given in pairs]
    return sum(found) / len(found)


def right_choices(choices: Sequence[str], references: Sequence[str]) -> list[int | None]:
    """The place of the choice that each reference begins with, the longest one of several.

    Raises:
        RecipeError: no reference begins with any.
    """
    longest = sorted(range(len(choices)), key=lambda i: -len(choices[i]))
    found = [
        next((i for i in longest if text.strip().startswith(choices[i].strip())), None)
        for text in references
    ]
    if all(one is None for one in found):
        raise RecipeError(
            "generation.choices", f"no held-out response begins with one of {', '.join(choices)}"
        )
    return found
