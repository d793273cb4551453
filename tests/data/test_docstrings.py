"""The embedded data: balanced, without leaks, the same every time, and cached safely."""

import gzip
from collections import Counter

import pytest

from polyrank.data import docstrings
from polyrank.data.paragraphs import letters
from polyrank.errors import DataError

NAMES = ("python", "torch", "numpy", "scipy", "sklearn", "scikit", "pandas", "sympy", "networkx")
NAMES += ("matplotlib", "pyplot", "transformers", " np.", " pd.", "`np.", "plt.", "nx.")


@pytest.fixture(scope="module")
def small():
    """A small corpus of the libraries that are installed here."""
    return docstrings.build(docstrings.versions(), per_class=110)


@pytest.fixture
def libraries(tmp_path, monkeypatch):
    """Two installed libraries with 150 texts each, of which they share 20."""
    site = tmp_path / "site"
    for name in ("alpha", "beta"):
        (site / name).mkdir(parents=True)
        owners = [name if number >= 20 else "everyone" for number in range(150)]
        functions = [
            f'def f{number}():\n    """What {owner} does with item {spelt(number)}, and why."""\n'
            for number, owner in enumerate(owners)
        ]
        (site / name / "__init__.py").write_text("raise ImportError\n" + "\n".join(functions))
        (site / f"{name}-1.0.dist-info").mkdir()
        (site / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(docstrings, "PACKAGES", {"alpha": "alpha", "beta": "beta", "no": "no-such"})
    return site


def spelt(number: int) -> str:
    """A number in letters."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def test_each_class_has_as_many_texts_and_a_fifth_is_held_out(small):
    assert small.labels[:2] == ("python", "torch")
    assert set(Counter(small.train.labels).values()) == {88}
    assert set(Counter(small.test.labels).values()) == {22}
    assert set(small.train.labels) == set(range(len(small.labels)))


def test_no_text_occurs_twice(small):
    texts = [letters(text) for text in (*small.train.texts, *small.test.texts)]
    assert len(set(texts)) == len(texts)


def test_no_text_names_a_library(small):
    texts = (*small.train.texts, *small.test.texts)
    named = [text for text in texts for name in NAMES if name in text.lower()]
    assert named == []
    assert all(30 <= len(text) <= 400 for text in texts)


def test_classes_are_mixed(small):
    assert len(set(small.train.labels[:40])) > 3


def test_the_same_libraries_give_the_same_corpus(libraries):
    assert docstrings.build(docstrings.versions()) == docstrings.build(docstrings.versions())


def test_the_source_names_versions_and_content(small):
    assert set(small.source["versions"]) == set(small.labels)
    assert len(small.source["sha256"]) == 64


def test_shared_texts_are_dropped_from_both_and_nothing_is_imported(libraries):
    assert docstrings.versions() == {"alpha": "1.0", "beta": "1.0"}
    corpus = docstrings.build(docstrings.versions())
    assert (len(corpus.train), len(corpus.test)) == (2 * 104, 2 * 26)
    assert not any("everyone" in text for text in corpus.train.texts + corpus.test.texts)


def test_the_first_use_fills_the_cache_and_the_second_reads_it(libraries, tmp_path, monkeypatch):
    first = docstrings.corpus(tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(docstrings, "build", None)
    assert docstrings.corpus(tmp_path / "cache") == first
    assert list((tmp_path / "cache").iterdir()) == [file]


@pytest.mark.parametrize("damage", [b"", b"no gzip", "half", "other"])
def test_a_damaged_cache_is_built_again(libraries, tmp_path, damage):
    first = docstrings.corpus(tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    good = file.read_bytes()
    if damage == "half":
        damage = good[: len(good) // 2]
    if damage == "other":
        damage = changed(good)
    file.write_bytes(damage)
    assert docstrings.corpus(tmp_path / "cache") == first
    assert file.read_bytes() == good


def changed(content: bytes) -> bytes:
    """A well-formed cache with one text changed."""
    return gzip.compress(gzip.decompress(content).replace(b"and why", b"or why", 1))


def test_a_cache_that_cannot_be_written_is_only_slower(libraries, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert len(docstrings.corpus(tmp_path / "file" / "cache").train) == 208


def test_another_version_is_another_corpus(libraries, tmp_path):
    docstrings.corpus(tmp_path / "cache")
    (libraries / "beta-1.0.dist-info").rename(libraries / "beta-1.1.dist-info")
    (libraries / "beta-1.1.dist-info" / "METADATA").write_text("Name: beta\nVersion: 1.1\n")
    assert docstrings.corpus(tmp_path / "cache").source["versions"]["beta"] == "1.1"
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_cache_folder_is_the_users(libraries, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    docstrings.corpus()
    assert len(list((tmp_path / "xdg" / "polyrank").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    docstrings.corpus()
    assert len(list((tmp_path / "home" / ".cache" / "polyrank").iterdir())) == 1


def test_a_single_library_is_refused_with_a_remedy(libraries, monkeypatch):
    monkeypatch.setattr(docstrings, "PACKAGES", {"alpha": "alpha", "no": "no-such"})
    with pytest.raises(DataError, match=r"found alpha: pip install 'polyrank\[demo\]'"):
        docstrings.build(docstrings.versions())
