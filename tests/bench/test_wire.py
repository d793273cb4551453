"""The benchmark's section on the wire runs, and says what the codecs promise."""

import pytest

from bench.section import Limits
from bench.wire import CODECS, run


def test_the_section_has_a_row_for_every_codec() -> None:
    told: list[object] = []
    limits = Limits(1, {"float32": 1e10, "bfloat16": 1e9}, 5e9, tiny=True, tell=told.append)
    section = run(True, limits)
    assert [row["codec"] for row in section.rows] == list(CODECS)
    assert told == section.rows
    shares = {row["codec"]: row["share"] for row in section.rows}
    for name, share in {"fp32": 1, "bf16": 1 / 2, "int8": 1 / 4, "int4": 1 / 8}.items():
        assert shares[name] == pytest.approx(share, rel=0.2)
    for row in section.rows:
        assert all(row[step] > 0 for step in ("pack s", "unpack s", "check s", "over copy"))
    assert section.ratios["wire_bytes_over_raw_int8"] == shares["int8"]
