"""The folder where a run's processes listen goes with its launcher, also one that was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cli.sockets import socket_folder

HOLD = """
import time
from cli.sockets import socket_folder
with socket_folder() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


def test_the_next_run_removes_what_a_killed_launcher_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "ldcq-of-mine").mkdir()
    command = [sys.executable, "-c", HOLD]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        left, used = (Path(each.stdout.readline().strip()) for each in (killed, living))  # type: ignore[union-attr]
        killed.kill()
        killed.wait()
        assert left.is_dir()
        with socket_folder() as own:
            there = {own, used, tmp_path / "ldcq-of-mine"}
            assert {path for path in tmp_path.iterdir() if path.name.startswith("ldcq-")} == there
        assert not own.exists()
        living.kill()
