"""What inspect and diff tell, against dense linear algebra; and their pictures."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyrank.adapters.comparing import diff
from polyrank.adapters.inspecting import inspect
from polyrank.adapters.opened import opened
from polyrank.adapters.picture import draw
from polyrank.adapters.sheet import Sheet
from polyrank.errors import AdapterError
from polyrank.lora.angles import angles
from polyrank.lora.factor import Factor
from polyrank.lora.spectral import recompress
from tests.adapters.folders import SHAPES, write

Q0, V0, Q1, DOWN = SHAPES


def cells(sheet: Sheet, table: int, row: str) -> list[str]:
    (found,) = [list(r) for r in sheet.tables[table].rows if r[0] == row]
    return found[1:]


def numbers(found: list[str]) -> list[float]:
    return [float(x.replace("−", "-").removesuffix(" %")) for x in found]


def test_inspect_tells_norms_spectra_and_what_a_smaller_rank_loses(tmp_path: Path) -> None:
    ranks = {Q0: 6, Q1: 6, DOWN: 3}
    one = write(tmp_path / "a", ranks, rslora=True, alpha=3, examples=70,
                dense={"head.weight": (3, 4)}, config={"modules_to_save": ["head"]})  # fmt: skip
    sheet = inspect(opened(one.path))
    values = {n: torch.linalg.svdvals(d) for n, d in one.deltas.items()}
    for name, s in values.items():
        size, rank, *rest = cells(sheet, 0, name)
        assert (size, rank) == (f"{SHAPES[name][0]} × {SHAPES[name][1]}", str(ranks[name]))
        share = s / s.sum()
        effective = math.exp(-float((share * share.log()).nan_to_num().sum()))
        kept = s.square().cumsum(0) / s.square().sum()
        wanted = [
            3 / ranks[name] ** 0.5, float(s.norm()), float(s[0]), effective,
            int((kept < 0.9).sum()) + 1, int((kept < 0.99).sum()) + 1,
        ]  # fmt: skip
        assert numbers(rest) == pytest.approx(wanted, rel=6e-3)
    total = sum(float(s.square().sum()) for s in values.values())
    for r in (1, 2, 4):
        tails = {n: float(s[r:].square().sum()) for n, s in values.items()}
        worst = max(tail / float(values[n].square().sum()) for n, tail in tails.items())
        wanted = [100 * sum(tails.values()) / total, 100 * worst]
        assert numbers(cells(sheet, 1, str(r))) == pytest.approx(wanted, abs=0.006)
    assert [r[0] for r in sheet.tables[1].rows] == ["1", "2", "4"]
    size = 6 * 22 * 2 + 3 * 24
    text = "\n".join(sheet.lines)
    for words in ("base: owner/model", f"3 layers of rank 3, 6: {size} parameters", "70 examples",
                  "kept whole: head.weight (12 parameters)"):  # fmt: skip
        assert words in text


def principal(one: Tensor, other: Tensor) -> list[float]:
    """By definition, for angles that are not tiny."""
    q, p = (np.linalg.qr(t.numpy())[0] for t in (one, other))
    cosines = np.linalg.svd(q.T @ p, compute_uv=False).clip(0, 1)
    return sorted(np.rad2deg(np.arccos(cosines)))


def test_diff_tells_distances_cosines_and_principal_angles(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 2, V0: 1}, seed=1)
    two = write(tmp_path / "b", {Q0: 4, Q1: 1}, seed=2, alpha=9)
    sheet = diff(opened(one.path), opened(two.path))
    ranks, *rest, rows, columns = cells(sheet, 0, Q0)
    d, e = one.deltas[Q0], two.deltas[Q0]
    cos = float((d * e).sum() / (d.norm() * e.norm()))
    assert ranks == "2, 4"
    wanted = [float(d.norm()), float(e.norm()), float((d - e).norm()), cos]
    assert numbers(rest) == pytest.approx(wanted, rel=6e-3)
    (a, b), (c, f) = one.factors[Q0], two.factors[Q0]
    for told, (x, y) in ((rows, (a.T, c.T)), (columns, (b, f))):
        low, high = principal(x, y)
        assert told == f"{low:.1f}–{high:.1f}"
    text = "\n".join(sheet.lines)
    assert "base of both: owner/model" in text
    assert f"only {one.path} adapts {V0}" in text
    assert f"only {two.path} adapts {Q1}" in text


def test_an_adapter_beside_itself_is_no_distance_and_no_angle(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 3, DOWN: 2}, seed=1)
    sheet = diff(opened(one.path), opened(one.path))
    for name in (Q0, DOWN):
        _, size, same, apart, cosine, rows, columns = cells(sheet, 0, name)
        assert (size, cosine, rows, columns) == (same, "1", "0.0", "0.0")
        assert apart == "0"


def test_angles_of_spaces_that_share_a_direction() -> None:
    eye = torch.eye(5, dtype=torch.float64)
    f = recompress(Factor(eye[:2], eye[:, :2]))
    tilted = torch.stack([eye[0], (eye[1] + eye[2]) / 2**0.5])
    g = recompress(Factor(tilted, eye[:, 2:4]))
    found = angles(f, g)
    assert found.rows == pytest.approx((0.0, 45.0), abs=1e-6)
    assert found.columns == pytest.approx((90.0, 90.0))


def test_adapters_of_other_models_are_not_compared(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a", {Q0: 2}), write(tmp_path / "b", {Q1: 2})
    with pytest.raises(AdapterError, match="adapt no layer in common"):
        diff(opened(one.path), opened(two.path))
    other = write(tmp_path / "c", {Q0: 2}, shapes={Q0: (12, 8)})
    with pytest.raises(AdapterError, match=r"shape \(12, 10\) in .*/a, but \(12, 8\) in .*/c"):
        diff(opened(one.path), opened(other.path))


def test_pictures_are_one_figure_or_a_page_of_all(tmp_path: Path) -> None:
    one, two = (opened(write(tmp_path / n, {Q0: r, Q1: 3, DOWN: 2}, seed=r).path)
                for n, r in (("a", 2), ("b", 4)))  # fmt: skip
    for sheet, words in ((inspect(one), "Energy lost"), (diff(one, two), "Principal angles")):
        draw(tmp_path / "p.svg", sheet)
        svg = (tmp_path / "p.svg").read_text()
        assert svg.startswith("<svg")
        assert words in svg
        draw(tmp_path / "p.html", sheet)
        page = (tmp_path / "p.html").read_text()
        for text in (words, *sheet.tables[0].columns, Q0):
            assert text.replace("‖", "‖") in page
    with pytest.raises(AdapterError, match=r"--plot .*p\.pdf: end its name in \.svg or \.html"):
        draw(tmp_path / "p.pdf", inspect(one))


def test_an_update_of_nothing_is_told_and_not_drawn(tmp_path: Path) -> None:
    one = write(tmp_path / "a", {Q0: 2}, alpha=0.0)
    sheet = inspect(opened(one.path))
    assert cells(sheet, 0, Q0)[2:] == ["0", "0", "0", "0", "0", "0"]
    with pytest.raises(AdapterError, match="there is nothing to draw; every update is zero"):
        draw(tmp_path / "p.svg", sheet)
