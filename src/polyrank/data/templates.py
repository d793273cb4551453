"""Dialogues as one text, and which parts of it are to be learned.

A template is Jinja, as transformers' own chat templates are. An answer is what the template adds
with it: its text and how its turn ends, not the words that announce it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from polyrank.data.examples import Dialogue
from polyrank.errors import DataError, RecipeError, nearest

ALPACA = (
    "{{ bos_token }}{% for m in messages %}{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}{{ '### Instruction:\n' + m.content }}"
    "{% else %}{{ '### Response:\n' + m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif %}"
)
CHATML = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
NAMED = {"alpaca": ALPACA, "chatml": CHATML, "plain": PLAIN}
OWN = "tokenizer"
_SPOKEN = {"prompt": "user", "completion": "assistant"}

Span = tuple[int, int]  # characters from, and to before


class Template(NamedTuple):
    """A template's name and its Jinja text."""

    name: str
    text: str


def choose(
    tokenizer: PreTrainedTokenizerBase, named: str | None, some: Sequence[Dialogue]
) -> Template:
    """The template for dialogues like these.

    Args:
        tokenizer: of the model.
        named: by the recipe; None leaves it to what there is.
        some: one or more.

    Raises:
        RecipeError: there is no such template.
    """
    own = tokenizer.chat_template
    own = own if isinstance(own, str) else (own or {}).get("default")
    if named is None:
        plain = some[0][-1][0] == "completion"
        named = "plain" if plain else OWN if own else "alpaca"
    if named == OWN and own:
        return Template(OWN, own)
    if named not in NAMED:
        hint = "its tokenizer has none" if named == OWN else nearest(named, [*NAMED, OWN])
        raise RecipeError("data.template", f"{named!r} is no template; {hint}")
    return Template(named, NAMED[named])


def rendered(
    tokenizer: PreTrainedTokenizerBase, template: Template, dialogue: Dialogue
) -> tuple[str, list[Span]]:
    """The dialogue as one text, and where in it the answers are.

    Raises:
        DataError: the template writes what comes before an answer otherwise once it is there.
    """
    turns = _turns(dialogue)
    whole = _render(tokenizer, template, turns)
    spans = []
    for i, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before = _render(tokenizer, template, turns[:i], True)
        upto = _render(tokenizer, template, turns[: i + 1])
        if not (upto.startswith(before) and whole.startswith(upto)):
            raise DataError(
                f"the chat template of {tokenizer.name_or_path!r} changes what comes before an "
                "answer, so that answers cannot be told apart in it; set data.template to one of "
                + ", ".join(NAMED)
            )
        spans.append((len(before), len(upto)))
    return whole, spans


def asked(tokenizer: PreTrainedTokenizerBase, template: Template, dialogue: Dialogue) -> str:
    """The text up to the last answer, which is to be given."""
    return _render(tokenizer, template, _turns(dialogue)[:-1], True)


def _turns(dialogue: Dialogue) -> list[dict[str, str]]:
    return [{"role": _SPOKEN.get(role, role), "content": text} for role, text in dialogue]


def _render(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    turns: list[dict[str, str]],
    announce: bool = False,
) -> str:
    if not turns and template.name == "plain":  # transformers takes no chat without a message
        return str(tokenizer.bos_token or "")
    return str(
        tokenizer.apply_chat_template(
            turns, chat_template=template.text, tokenize=False, add_generation_prompt=announce
        )
    )
