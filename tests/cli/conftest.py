"""What the tests of commands share."""

from __future__ import annotations

import logging

import pytest

from tests.cli.refused import Refused


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must be refused; see `Refused`."""
    # Commands set up logging anew: not for the tests that follow.
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    return Refused(monkeypatch, capfd)
