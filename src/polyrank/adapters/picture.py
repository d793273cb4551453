"""A sheet as a file: one figure as SVG, or a whole page of tables and figures as HTML."""

from pathlib import Path

from polyrank import files
from polyrank.adapters.sheet import Sheet, Table
from polyrank.errors import AdapterError
from polyrank.report import figures, maps
from polyrank.report.markup import Column, Html, section, table, tag
from polyrank.report.page import document
from polyrank.report.svg import chart

FORMS = (".svg", ".html")


def check(path: Path) -> None:
    """Refuse a file of a form that cannot be drawn.

    Raises:
        AdapterError: its name does not say one that can.
    """
    if path.suffix not in FORMS:
        raise AdapterError(f"--plot {path}: end its name in {' or '.join(FORMS)}")


def draw(path: Path, sheet: Sheet) -> None:
    """Write the picture.

    Raises:
        AdapterError: its form is unknown, or there is nothing to draw.
        StorageError: the file cannot be written.
    """
    check(path)
    if not any(v is not None for line in sheet.panels[0].lines for v in line.y):
        raise AdapterError(f"--plot {path}: there is nothing to draw; every update is zero")
    text = chart(sheet.panels[0]) if path.suffix == ".svg" else page(sheet)
    files.write(path, text.encode())


def page(sheet: Sheet) -> str:
    """The HTML page of a sheet."""
    shown = [p for p in sheet.panels if any(v is not None for line in p.lines for v in line.y)]
    drawn = [figures.lines(shown, columns=2), maps.heats([sheet.heat], 1, "", signed=sheet.signed)]
    plots = [figures.html(figure, f"figure-{i}") for i, figure in enumerate(drawn)]
    parts = [
        section("facts", "Facts", *(tag("p", line) for line in sheet.lines)),
        section("figures", "Figures", *plots),
        *(_section(i, one) for i, one in enumerate(sheet.tables)),
    ]
    return document(sheet.title, tag("main", tag("h1", sheet.title), *parts))


def _section(index: int, one: Table) -> Html:
    name, *others = one.columns
    columns = [Column(name, kind="name"), *(Column(title) for title in others)]
    return section(f"table-{index}", one.title, table(columns, one.rows))
