"""The look of a report: colours that colour-blind readers can tell apart, and the page's CSS.

The colours are those of Okabe and Ito (2008) without the yellow, which is faint on white; after
seven labels they come again with another dash.
"""

from collections.abc import Iterable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("solid", "dash", "dot")
INK, GREY, GRID = "#1f2933", "#616e7c", "#e4e7eb"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


def indices(labels: Iterable[str]) -> dict[str, int]:
    """A number for each label that does not depend on which of them is best."""
    return {label: i for i, label in enumerate(sorted(labels))}


def colour(index: int) -> str:
    """The colour of the label with this index."""
    return COLOURS[index % len(COLOURS)]


def dash(index: int) -> str:
    """The dash of the label with this index."""
    return DASHES[index // len(COLOURS) % len(DASHES)]


CSS = (
    f"""
:root {{ color-scheme: light; --ink: {INK}; --grey: {GREY}; --line: {GRID}; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f5f7fa; color: var(--ink); font: 15px/1.5 {FONT}; }}
"""
    """
main { max-width: 1240px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 28px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 0 0 10px; }
h3 { font-size: 15px; margin: 18px 0 6px; }
p { margin: 0 0 10px; max-width: 95ch; overflow-wrap: anywhere; }
nav { margin: 12px 0 18px; display: flex; flex-wrap: wrap; gap: 4px 16px; }
nav a { color: #0072B2; text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin: 0 0 18px; }
.verdict { font-size: 18px; margin: 6px 0 0; }
.note, .seeds { color: var(--grey); font-size: 13px; }
.warning { border-left: 4px solid #D55E00; background: #fff4ed; padding: 8px 12px; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 14px 0 0; }
.facts div { flex: 1 1 auto; background: #fff; border: 1px solid var(--line); border-radius: 8px;
  padding: 6px 12px; }
.facts dt { color: var(--grey); font-size: 12px; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow: auto; max-height: 800px; border: 1px solid var(--line);
  border-radius: 8px; margin: 0 0 10px; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: #f5f7fa; text-align: left; font-weight: 600;
  font-size: 13px; white-space: nowrap; z-index: 1; }
th[title] { text-decoration: underline dotted var(--grey); text-underline-offset: 3px;
  cursor: help; }
th, td { padding: 6px 12px; border-bottom: 1px solid var(--line); vertical-align: middle; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover { background: #f8fafc; }
.number { text-align: right; white-space: nowrap; }
.place { white-space: nowrap; }
.name { font-weight: 600; min-width: 12em; overflow-wrap: anywhere; }
.text { overflow-wrap: anywhere; min-width: 12em; }
.key { overflow-wrap: anywhere; min-width: 4em; }
.swatch { vertical-align: middle; margin-right: 8px; }
td svg { display: inline-block; vertical-align: middle; }
details { border-top: 1px solid var(--line); padding: 8px 0; }
details:first-of-type { border-top: 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
details > :nth-child(2) { margin-top: 8px; }
pre { background: #f5f7fa; border-radius: 8px; padding: 12px; overflow: auto; margin: 8px 0;
  font-size: 13px; max-height: 560px; }
.plot { overflow-x: auto; overflow-y: hidden; }
.plot > div { min-width: 760px; }
@media print {
  body { background: #fff; }
  main { padding: 0; }
  table { font-size: 11px; }
  th, td { padding: 3px 6px; font-size: inherit; }
  h2, h3 { break-after: avoid; }
  nav, .modebar, .modebar-container { display: none; }
  section { border: 0; padding: 0; }
  .scroll { max-height: none; overflow: visible; }
  .plot { overflow: visible; zoom: 0.62; }  /* drawn for a screen, printed on a page */
  .plot, tr { break-inside: avoid; }
}
"""
)
