"""HTML from data: every string is escaped here, and only `Html` goes through as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

VOID = {"meta", "rect", "line", "circle", "path"}


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is safe already."""

    text: str


Content = Html | str


@dataclass(frozen=True, slots=True)
class Column:
    """A table column; `kind` is its CSS class, `hint` explains the heading on hover."""

    title: str
    kind: str = "number"
    hint: str = ""


def safe(content: Content) -> str:
    """The markup of `content`: a plain string is escaped."""
    return content.text if isinstance(content, Html) else escape(content)


def tag(name: str, /, *children: Content, **attributes: str) -> Html:
    """An element; a trailing underscore in an attribute's name is dropped (`class_`)."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value
    )
    if name in VOID:
        return Html(f"<{name}{pairs}/>")
    return Html(f"<{name}{pairs}>{join(children).text}</{name}>")


def join(contents: Iterable[Content], between: Content = "") -> Html:
    """All contents, one after the other."""
    return Html(safe(between).join(safe(c) for c in contents))


def table(columns: Sequence[Column], rows: Iterable[Sequence[Content]], kind: str = "") -> Html:
    """A table that scrolls in its own box when it is long or wide."""
    head = [tag("th", c.title, class_=c.kind, title=c.hint, scope="col") for c in columns]
    body = [
        tag("tr", *(tag("td", x, class_=c.kind) for c, x in zip(columns, row, strict=True)))
        for row in rows
    ]
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_=kind)
    return tag("div", whole, class_="scroll", tabindex="0")


def section(id: str, title: str, *children: Content) -> Html:
    """A titled part of the page that a link can point to."""
    return tag("section", tag("h2", title), *children, id=id)


def details(title: Content, *children: Content, open: bool = False) -> Html:
    """A part that opens on a click, without a script."""
    return tag("details", tag("summary", title), *children, open="open" if open else "")
