"""Texts from source: the first paragraph, masked, and nothing that gives the library away."""

import pytest

from polyrank.data.paragraphs import collect, first_paragraphs, letters, mask

SOURCE = '''
"""The module says what it is for,
   on two lines.

A second paragraph is left out.
"""

class Shape:
    """Something with as many corners as it was given."""

    async def area(self):
        """Computes what numpy.trapezoid and scikit-learn would call an area."""
        def inner():
            """A function in a function has a docstring as well."""

    def short(self):
        """Too short."""

if True:
    def heading():
        """
        A heading with a line under it
        ------------------------------
        """

def escape():
    "An invalid escape \\d warns when it is parsed, but not here."

def session():
    """The result of >>> is a session, and not a sentence."""

"""A string that is no docstring is no text, however long it is."""
'''


def test_documented_things_give_their_first_paragraphs():
    assert list(first_paragraphs(SOURCE.encode())) == [
        "The module says what it is for, on two lines.",
        "Something with as many corners as it was given.",
        "Computes what [lib].trapezoid and [lib] would call an area.",
        "A function in a function has a docstring as well.",
        r"An invalid escape \d warns when it is parsed, but not here.",
    ]


@pytest.mark.parametrize(
    "source", [b"def broken(:", b"# coding: nonsense\n", b"x = '\xff'", b"a\0b", b"(" * 5000]
)
def test_source_that_does_not_parse_gives_no_texts(source):
    assert list(first_paragraphs(source)) == []


def test_half_a_surrogate_pair_is_no_text():
    assert list(first_paragraphs(rb'"A text with half a surrogate pair: \ud800"')) == []


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("NumPy's np.array and PyTorch", "[lib]'s [lib].array and [lib]"),
        ("is_torch_tensor, torch.nn", "is_[lib]_tensor, [lib].nn"),
        ("scikit-learn, scikit learn, SKLEARN", "[lib], [lib] learn, [lib]"),
        ("CPython and Python 3", "[lib] and [lib] 3"),
        ("pd.DataFrame, nx.Graph, plt.plot", "[lib].DataFrame, [lib].Graph, [lib].plot"),
        ("an input, a spell and a half", "an input, a spell and a half"),
    ],
)
def test_names_and_aliases_are_masked(text, masked):
    assert mask(text) == masked


def test_texts_that_differ_in_case_digits_and_marks_count_as_one():
    assert letters("Return  the 2nd Norm.") == letters("return the `3nd` norm")
    assert letters("Return the norm") != letters("Return the form")


def test_files_come_in_a_fixed_order_and_tests_not_at_all(tmp_path):
    for name in ("a.py", "b.py", "sub/c.py", "tests/d.py", "test_e.py", "_vendor/f.py", "g.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        letter = path.stem[-1]
        path.write_text(f'"""The module {letter * 9} does what it says and no more."""')
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    texts = list(collect(tmp_path, 100).values())
    assert sorted(texts) == [
        f"The module {letter * 9} does what it says and no more." for letter in "abc"
    ]
    assert list(collect(tmp_path, 2).values()) == texts[:2]
