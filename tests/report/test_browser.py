"""The page in a real browser: it must draw every figure and say nothing on the console."""

import re
import shutil
import subprocess

import pytest

from polyrank.report.page import page
from tests.report.synthetic import run_records
from tests.report.test_page import hostile

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=8000",
    "--dump-dom",
]

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} on PATH")


def opened(folder, text):
    """The page as the browser left it, and all that it said on the console."""
    (folder / "page.html").write_text(text, encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder}/profile", f"file://{folder}/page.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.parametrize(
    ("runs", "figures"),
    [
        ([run_records(label, seed) for label in ("fedhl", "flora") for seed in (0, 1)], 13),
        ([hostile()], 10),
        ([run_records(clients=1, rounds=0, finished=False)], 5),
        ([run_records(f"fedhl-{i}", rounds=1) for i in range(18)], 13),
    ],
    ids=["two-algorithms", "hostile-names", "before-training", "eighteen-labels"],
)
def test_every_figure_is_drawn_and_the_console_is_silent(tmp_path, runs, figures):
    dom, console = opened(tmp_path, page(runs))
    assert console == []
    drawn = re.findall(r'class="plotly-graph-div js-plotly-plot"', dom)
    assert len(drawn) == len(re.findall(r'class="plotly-graph-div', dom)) == figures
    assert dom.count('class="main-svg"') >= figures


def width(dom, id):
    return float(re.search(rf'id="{id}".*?class="main-svg"[^>]* width="([0-9.]+)"', dom)[1])


def test_a_figure_in_a_closed_part_fits_when_it_is_opened(tmp_path):
    """Also in a browser that gives closed parts no width."""
    narrow = "<style>details:not([open]) > .plot { display: none; }</style>"
    closed = page([run_records(f"fedhl-{i}", rounds=1) for i in range(6)])
    press = "document.querySelectorAll('#weights details').forEach(d => { d.open = true; })"
    later = f"<script>addEventListener('load', () => setTimeout(() => {press}, 500))</script>"
    dom, console = opened(tmp_path, closed.replace("</head>", f"{narrow}{later}</head>"))
    assert console == []
    assert dom.count('<details open=""><summary>Aggregation weight') == 1
    assert width(dom, "plot-weights") == width(dom, "plot-shares")


MISTAKES = {
    "<script>undefined_name()</script>": "Uncaught ReferenceError",
    "<script>console.error('broken')</script>": "broken",
    "<img src='https://example.org/x.png' alt=''>": "Content Security Policy",
    "<script>Plotly.newPlot('nowhere', [])</script>": "No DOM element with id",
}


def test_the_check_can_fail(tmp_path):
    broken = page([run_records(rounds=1)]).replace("</body>", f"{''.join(MISTAKES)}</body>")
    _, console = opened(tmp_path, broken)
    for mistake, complaint in MISTAKES.items():
        assert any(complaint in line for line in console), mistake
