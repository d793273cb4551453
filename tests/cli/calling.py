"""A command of ours, called in this process."""

import sys
from collections.abc import Callable

import pytest

from polyrank.cli import base, main

Command = Callable[..., tuple[int, str, str]]


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> Command:
    """Call it with some words: exit code, stdout (of so many columns), stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["polyrank", *map(str, arguments)])
        monkeypatch.setattr(base.out, "width", width)
        with pytest.raises(SystemExit) as raised:
            main()
        out, err = capsys.readouterr()
        return int(raised.value.code or 0), out, err

    return call
