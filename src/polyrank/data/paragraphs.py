"""First paragraphs of docstrings, read from a library's source without importing it."""

import ast
import re
import warnings
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from polyrank.data import digest

LENGTHS = range(30, 401)  # characters
MASK = "[lib]"
# A library's name is masked inside longer words too (is_torch_tensor); an alias only as a word.
NAMES = re.compile(
    r"(c|i)?python|(py)?torch|transformers|hugging ?face|numpy|scipy|scikit-?(learn)?|sklearn"
    r"|pandas|sympy|networkx|matplotlib|pyplot"
    r"|(?<![a-z0-9])(np|pd|plt|nx|mpl|sp|hf|aten)(?![a-z0-9])",
    re.IGNORECASE,
)
MARKUP = re.compile(r"[-=*~^]{3}|>>>")  # a heading or a session instead of prose
SKIPPED = re.compile(
    r"_*tests?|_?testing|idle_test|_*vendor(ed)?|extern(al)?s?|_bundled|(site|dist)-packages"
    r"|__pycache__|test_.*|.*_test\.py|conftest\.py"
)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def collect(folder: Path, enough: int) -> dict[str, str]:
    """About `enough` different paragraphs below `folder`, from whole files in a fixed order.

    The order is by a hash of the relative path: a sample costs no parse of the rest, and no
    part of the library is favoured.

    Returns:
        The paragraphs by their letters.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in _sources(folder)}
    found: dict[str, str] = {}
    for name in sorted(paths, key=digest.of_text):
        if len(found) >= enough:
            break
        for paragraph in first_paragraphs(paths[name].read_bytes()):
            found.setdefault(letters(paragraph), paragraph)
    return found


def first_paragraphs(source: bytes) -> Iterator[str]:
    """The masked first paragraph of each docstring in `source`; none if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in _documented(module):
        paragraph = re.split(r"\n\s*\n", ast.get_docstring(node) or "", maxsplit=1)[0]
        text = " ".join(mask(paragraph).split())
        if len(text) in LENGTHS and text.isprintable() and not MARKUP.search(text):
            yield text


def mask(text: str) -> str:
    """`text` with the name and the usual alias of every library hidden."""
    return NAMES.sub(MASK, text)


def letters(text: str) -> str:
    """What two texts share that differ in case, digits or punctuation alone."""
    return " ".join(re.findall(r"[^\W\d_]+", text.lower()))


def _documented(node: ast.AST) -> Iterator[DOCUMENTED]:
    if isinstance(node, DOCUMENTED):
        yield node
    statements = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
    yield from chain.from_iterable(map(_documented, statements))


def _sources(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if SKIPPED.fullmatch(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _sources(entry)
        elif entry.suffix == ".py" and entry.is_file():
            yield entry
