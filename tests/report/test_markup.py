import pytest

from polyrank.report.markup import Column, Html, details, safe, table, tag

EVIL = "<script>alert('x')</script> & \"quotes\""


def test_text_and_attributes_are_escaped():
    made = safe(tag("p", EVIL, title=EVIL))
    assert "<script" not in made
    assert made.count("&lt;script&gt;") == 2
    assert "&quot;quotes&quot;" in made


def test_markup_goes_through_as_it_is():
    assert safe(tag("p", Html("<b>x</b>"))) == "<p><b>x</b></p>"
    assert safe(tag("meta", charset="utf-8")) == '<meta charset="utf-8"/>'


def test_a_table_escapes_headings_hints_and_cells():
    made = safe(table([Column(EVIL, "text", EVIL)], [[EVIL]]))
    assert "<script" not in made
    assert made.count("&lt;script&gt;") == 3


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ValueError, match="zip"):
        table([Column("a")], [["1", "2"]])


def test_details_are_closed_unless_told():
    assert "open" not in safe(details("a", "b"))
    assert '<details open="open">' in safe(details("a", "b", open=True))
