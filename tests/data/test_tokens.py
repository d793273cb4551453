"""Token ids are made once and mapped; a file that is not what was written counts as none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from polyrank.data import tokens
from polyrank.data.batches import Tokens
from polyrank.data.examples import Examples
from polyrank.errors import SlowerWarning

EXAMPLES = Examples(("a b", "b", "a a a b"), (0, 1, 0))


def letters(*also: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(("<pad>", "a", "b", *also))}
    model = Tokenizer(models.WordLevel(vocabulary, "<pad>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever texts are tokenised."""
    calls, compute = [], tokens._computed
    monkeypatch.setattr(tokens, "_computed", lambda *how: calls.append(1) or compute(*how))
    return calls


def equal(one: Tokens, other: Tokens) -> bool:
    pairs = zip((one.ids, one.starts, one.labels), (other.ids, other.starts, other.labels),
                strict=True)  # fmt: skip
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_later_run_maps_what_the_first_one_wrote(tmp_path, computed):
    plain = tokens.tokenize(letters(), EXAMPLES, 8)
    first = tokens.tokenize(letters(), EXAMPLES, 8, tmp_path)
    second = tokens.tokenize(letters(), EXAMPLES, 8, tmp_path)
    assert len(computed) == 2  # without a folder, and first with one
    assert equal(plain, first)
    assert equal(first, second)
    mapped = Path("/proc/self/maps")
    assert not mapped.exists() or only_file(tmp_path).name in mapped.read_text()


def test_labels_are_not_what_is_kept(tmp_path, computed):
    tokens.tokenize(letters(), EXAMPLES, 8, tmp_path)
    other = tokens.tokenize(letters(), Examples(EXAMPLES.texts, (2, 2, 2)), 8, tmp_path)
    assert len(computed) == 1
    assert other.labels.tolist() == [2, 2, 2]


def test_all_that_decides_the_ids_is_in_the_name(tmp_path, computed):
    right = letters()
    right.truncation_side = "left"
    for tokenizer, examples, longest in (
        (letters(), EXAMPLES, 8),
        (letters("c"), EXAMPLES, 8),
        (letters(), Examples(("a b", "b", "a a b"), (0, 1, 0)), 8),
        (letters(), EXAMPLES, 2),
        (right, EXAMPLES, 2),
    ):
        tokens.tokenize(tokenizer, examples, longest, tmp_path)
    assert len(computed) == len(list(tmp_path.iterdir())) == 5


def test_a_tokenizers_last_call_changes_nothing(tmp_path, computed):
    tokenizer = letters()
    tokens.tokenize(tokenizer, EXAMPLES, 8, tmp_path)
    tokenizer(["a b"], truncation=True, max_length=3, padding="max_length")
    tokens.tokenize(tokenizer, EXAMPLES, 8, tmp_path)
    assert len(computed) == 1


@pytest.mark.parametrize("damage", ["cut short", "a bit flipped", "emptied", "another file"])
def test_a_damaged_file_is_made_again(damage, tmp_path, computed):
    first = tokens.tokenize(letters(), EXAMPLES, 8, tmp_path)
    path = only_file(tmp_path)
    written = path.read_bytes()
    broken = {
        "cut short": written[:-4],
        "a bit flipped": written[:-1] + bytes([written[-1] ^ 1]),
        "emptied": b"",
        "another file": b"\x02\0\0\0\0\0\0\0{}",
    }
    path.unlink()  # what is mapped must not change under us
    path.write_bytes(broken[damage])
    again = tokens.tokenize(letters(), EXAMPLES, 8, tmp_path)
    assert len(computed) == 2
    assert equal(first, again)
    assert equal(first, tokens.tokenize(letters(), EXAMPLES, 8, tmp_path))
    assert len(computed) == 2


def test_a_folder_that_cannot_be_written_costs_memory_and_says_so(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(SlowerWarning, match=r"cannot write .*stay in memory$"):
        found = tokens.tokenize(letters(), EXAMPLES, 8, tmp_path / "file")
    assert equal(found, tokens.tokenize(letters(), EXAMPLES, 8))


def test_ids_lie_in_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tokens.folder() == tmp_path / "polyrank" / "tokens"


def test_the_command_line_tells_a_warning_in_one_line():
    code = (
        "import warnings; from polyrank.cli import base; warnings.showwarning = base.warned; "
        "warnings.warn('slow disk')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "polyrank: slow disk\n"
