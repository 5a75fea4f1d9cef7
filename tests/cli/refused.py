"""Commands that must be refused."""

from __future__ import annotations

import sys

import pytest

from cli.main import main


class Refused:
    """Runs a command that must be refused and returns what it printed on standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capture = monkeypatch, capfd

    def __call__(self, *arguments: object) -> str:
        self._monkeypatch.setattr(sys, "argv", ["ldcq", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capture.readouterr()
        assert ended.value.code == 2, printed.err
        assert "Traceback" not in printed.err
        assert printed.out == ""
        assert printed.err.count("error: ") == 1
        return printed.err
