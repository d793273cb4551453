"""Which tokens are learned: the answers' and no other, as transformers itself marks them."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from polyrank.client.writing import Writing, chosen
from polyrank.data.batches import Tokens, in_order, merged
from polyrank.data.examples import Dialogue, Examples
from polyrank.data.spoken import cut, tokenize, window
from polyrank.data.templates import NAMED, asked, choose, rendered
from polyrank.errors import DataError, RecipeError
from polyrank.recipe.schema import Data

CHAT: list[Dialogue] = [
    (("user", "Who is it?"), ("assistant", "It is Tom.")),
    (("system", "Be kind."), ("user", "Hi!"), ("assistant", "Hi, Sue."), ("user", "Bye <s>"),
     ("assistant", "Bye 😀 now")),
    (("user", " \n spaces "), ("assistant", "  two\n\nlines ")),
]  # fmt: skip
PAIR: list[Dialogue] = [(("prompt", "Once upon"), ("completion", " a time"))]
TEXT: list[Dialogue] = [(("completion", "Once upon a time there was a cat."),)]
# ChatML as transformers wants it for its own marks: on the answer and the end of its turn.
GENERATION = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' + '\n' }}"
    "{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokens_of(
    tokenizer: PreTrainedTokenizerBase, dialogues: list[Dialogue], **data: object
) -> Tokens:
    examples = Examples(tuple(dialogues), (0,) * len(dialogues))
    return tokenize(tokenizer, examples, Data(**{"max_length": 256, **data}))


def rows(tokens: Tokens) -> list[tuple[list[int], list[bool]]]:
    pieces = tokens.starts.diff().tolist()
    return [
        (ids.tolist(), marks.tolist())
        for ids, marks in zip(tokens.ids.split(pieces), tokens.counted.split(pieces), strict=True)
    ]


def test_ids_and_marks_are_those_of_transformers(tokenizer: PreTrainedTokenizerBase) -> None:
    own = copy.deepcopy(tokenizer)
    own.chat_template = GENERATION
    for dialogue, (ids, marks) in zip(CHAT, rows(tokens_of(own, CHAT)), strict=True):
        turns = [{"role": role, "content": text} for role, text in dialogue]
        wanted = own.apply_chat_template(
            turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert ids == wanted["input_ids"]
        assert marks == [bool(mark) for mark in wanted["assistant_masks"]]


@pytest.mark.parametrize("name", sorted(NAMED))
def test_marked_tokens_are_the_answers_to_the_last_one(
    tokenizer: PreTrainedTokenizerBase, name: str
) -> None:
    """Token by token: what is marked stands for a character of an answer, all else does not."""
    for dialogue, (ids, marks) in zip(
        CHAT, rows(tokens_of(tokenizer, CHAT, template=name)), strict=True
    ):
        whole, spans = rendered(tokenizer, choose(tokenizer, name, [dialogue]), dialogue)
        answers = [text for role, text in dialogue if role == "assistant"]
        assert [whole[a:b].startswith(text) for (a, b), text in zip(spans, answers, strict=True)]
        inside = [any(a <= i < b for a, b in spans) for i in range(len(whole))]
        offsets = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        assert ids == offsets["input_ids"]
        for (start, end), mark in zip(offsets["offset_mapping"], marks, strict=True):
            assert mark == any(inside[start:end])


def test_a_prompt_and_a_text_are_as_they_stand(tokenizer: PreTrainedTokenizerBase) -> None:
    ((ids, marks),) = rows(tokens_of(tokenizer, PAIR))
    assert tokenizer.decode(ids) == "<s> Once upon a time</s>"
    assert tokenizer.decode([i for i, m in zip(ids, marks, strict=True) if m]) == "a time</s>"
    ((ids, marks),) = rows(tokens_of(tokenizer, TEXT))
    assert ids == [*tokenizer(TEXT[0][0][1])["input_ids"], tokenizer.eos_token_id]
    assert marks == [False, *[True] * (len(ids) - 1)]
    ((ids, marks),) = rows(tokens_of(tokenizer, PAIR, loss="all"))
    assert all(marks)


def test_the_template_that_is_taken(tokenizer: PreTrainedTokenizerBase) -> None:
    own = copy.deepcopy(tokenizer)
    own.chat_template = GENERATION
    found = [
        choose(t, name, some).name
        for t, name, some in (
            (tokenizer, None, CHAT), (own, None, CHAT), (own, None, PAIR), (own, "chatml", TEXT),
        )
    ]  # fmt: skip
    assert found == ["alpaca", "tokenizer", "plain", "chatml"]
    with pytest.raises(RecipeError, match="'tokenizer' is no template; its tokenizer has none"):
        choose(tokenizer, "tokenizer", CHAT)
    with pytest.raises(RecipeError, match=r"data\.template: 'alpacka' .*did you mean 'alpaca'"):
        choose(tokenizer, "alpacka", CHAT)
    ask = asked(tokenizer, choose(tokenizer, "alpaca", CHAT), CHAT[0])
    assert ask == "<s>### Instruction:\nWho is it?\n\n### Response:\n"


def test_a_template_that_rewrites_the_past_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    own = copy.deepcopy(tokenizer)
    own.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match=r"changes what comes before an answer.*data\.template"):
        tokens_of(own, CHAT)


def test_loss_is_transformers_own_over_the_answers(
    tokenizer: PreTrainedTokenizerBase, llama_folder
) -> None:
    """Of padded batches of any size, as that of each dialogue alone with −100 on all else."""
    net = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    tokens, total, count = tokens_of(tokenizer, CHAT, template="alpaca"), 0.0, 0
    for ids, marks in rows(tokens):
        row = torch.tensor([ids])
        labels = torch.where(torch.tensor([marks]), row, -100)
        predicted = int((labels[:, 1:] != -100).sum())
        total += net(input_ids=row, labels=labels).loss.item() * predicted
        count += predicted
    objective = Writing(("all",))
    with torch.no_grad():
        for size in (1, 2, 3):
            found = [
                objective.losses(
                    chosen(net(input_ids=b.input_ids, attention_mask=b.attention_mask).logits, b), b
                )
                for b in in_order(tokens, size)
            ]
            losses, counts = (torch.cat(column) for column in zip(*found, strict=True))
            assert counts.sum() == count
            assert float(losses.sum()) / count == pytest.approx(total / count, abs=1e-5)


def test_merged_batches_keep_their_marks(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = tokens_of(tokenizer, CHAT)
    parts = list(in_order(tokens, 2))
    both, real = merged(parts, tokens.pad)
    kept = both.counted[real.flatten() > 0].sum(dim=1)
    assert kept.tolist() == [int(row) for b in parts for row in b.counted.sum(dim=1)]
    assert not (both.counted & (both.attention_mask == 0)).any()


def test_what_is_too_long_is_cut_and_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    long = [*CHAT, (("user", "word " * 60), ("assistant", "yes " * 40))]
    whole = rows(tokens_of(tokenizer, long, max_length=512))
    tokens = tokens_of(tokenizer, long, max_length=32)
    assert tokens.starts.diff().max() == 32
    assert cut(tokens) == (sum(len(ids) > 32 for ids, _ in whole), max(len(i) for i, _ in whole))
    ids, marks = rows(tokens)[-1]
    assert marks == [False] * 16 + [True] * 16  # of a prompt that is too long, its end
    start = next(i for i in range(len(whole[-1][0])) if whole[-1][0][i : i + 32] == ids)
    assert start > 0


@pytest.mark.parametrize(
    ("counted", "limit", "kept"),
    [
        ([False, True], 5, [0, 1]),
        ([False, True, True], 2, [0, 1]),
        ([True, False, False, True], 2, [2, 3]),  # the first token is never predicted
        ([False] * 4 + [True] * 4, 4, [2, 3, 4, 5]),
        ([False] * 4 + [True], 4, [1, 2, 3, 4]),
    ],
)
def test_the_window_that_is_kept(counted: list[bool], limit: int, kept: list[int]) -> None:
    assert list(range(len(counted)))[window(counted, limit)] == kept
