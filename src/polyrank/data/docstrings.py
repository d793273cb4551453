"""The embedded data: which library does the first paragraph of a docstring come from?

The texts lie in the installed packages; every library's name and alias is masked in all of them.
"""

import platform
import sysconfig
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata, util
from itertools import chain
from pathlib import Path

from polyrank.data import cache, digest
from polyrank.data.examples import Corpus, Examples
from polyrank.data.paragraphs import collect
from polyrank.errors import DataError

FORMAT = 1  # of the cached corpus: raise it when the rules for a text change
PACKAGES = {  # class name -> the distribution to install; None is the standard library
    "python": None,
    "torch": "torch",
    "transformers": "transformers",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pandas": "pandas",
    "sympy": "sympy",
    "networkx": "networkx",
    "matplotlib": "matplotlib",
}
PER_CLASS = 1000  # at most; what the smallest library (numpy) gives in every environment
HELD_OUT = 5  # one in five
FEWEST = 100  # a library with fewer texts (compiled, stripped) makes no class


def corpus(folder: Path | None = None) -> Corpus:
    """The embedded corpus: built on first use, read from the cache afterwards.

    Args:
        folder: the cache; by default `polyrank` in the user's cache folder.

    Raises:
        DataError: fewer than two libraries are installed with their source.
    """
    libraries = versions()
    key = digest.of_json([FORMAT, platform.python_version(), libraries, PER_CLASS])
    path = (folder or cache.folder()) / f"docstrings-{key[:16]}.json.gz"
    known = cache.load(path)
    if known is None:
        known = build(libraries)
        cache.store(path, known)
    return known


def versions() -> dict[str, str]:
    """Class name -> version, for the libraries whose source is installed."""
    found = {}
    for name, distribution in PACKAGES.items():
        if distribution is None:
            found[name] = platform.python_version()
        elif _folder(name) and (version := _version(distribution)):
            found[name] = version
    return found


def build(libraries: Mapping[str, str], per_class: int = PER_CLASS) -> Corpus:
    """Collect, drop what two libraries share, balance and split: no randomness anywhere.

    Args:
        libraries: class name -> version, as `versions` finds them.
        per_class: at most so many texts of each class, the held-out ones included.

    Raises:
        DataError: fewer than two libraries have enough texts.
    """
    texts = _own_texts(libraries, per_class)
    if len(texts) < 2:
        raise DataError(
            "the embedded docstrings need two or more libraries with their source, found "
            f"{', '.join(texts) or 'none'}: pip install 'polyrank[demo]'"
        )
    size = min(per_class, *map(len, texts.values()))
    held_out = size // HELD_OUT
    train = _shuffled([one[held_out:size] for one in texts.values()])
    test = _shuffled([one[:held_out] for one in texts.values()])
    names = tuple(texts)
    source = {
        "name": "docstrings",
        "versions": {name: libraries[name] for name in names},
        "sha256": digest.of_json([asdict(train), asdict(test), names]),
    }
    return Corpus(train, test, names, source)


def _own_texts(libraries: Mapping[str, str], per_class: int) -> dict[str, list[str]]:
    """Each library's texts that no other one has, in the order of their hashes."""
    enough = per_class * 6 // 5  # some are dropped again
    found = {name: collect(path, enough) for name in libraries if (path := _folder(name))}
    owners = Counter(chain.from_iterable(found.values()))
    own = {
        name: sorted((one[key] for key in one if owners[key] == 1), key=digest.of_text)
        for name, one in found.items()
    }
    return {name: one for name, one in own.items() if len(one) >= FEWEST}


def _shuffled(by_class: list[list[str]]) -> Examples:
    pairs = [(text, label) for label, texts in enumerate(by_class) for text in texts]
    pairs.sort(key=lambda pair: digest.of_text(pair[0]))
    texts, labels = zip(*pairs, strict=True)
    return Examples(texts, labels)


def _folder(name: str) -> Path | None:
    """Where a library's source lies, found without importing it."""
    if PACKAGES[name] is None:
        return Path(sysconfig.get_path("stdlib"))
    spec = util.find_spec(name)
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
