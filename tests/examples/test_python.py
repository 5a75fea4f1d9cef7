"""The examples in Python run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import PATIENCE, PIXELS, TINY, VALUED

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.timeout(600)


def _run(example: str, *arguments: str | Path) -> str:
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.xdist_group("runs")
@pytest.mark.parametrize("config", [TINY, VALUED], ids=["tiny", "valued"])
def test_one_process_is_the_whole_method(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user calls it: the data's folder is relative, and made."""
    monkeypatch.chdir(tmp_path)
    printed = _run("one_process.py", "--config", config, "--episodes", "2")
    assert (tmp_path / "runs" / "one_process" / "datasets").is_dir()
    assert "VAE" in printed
    assert "critic" in printed
    assert printed.count("return") == 2


def test_one_process_leaves_images_to_the_pipeline() -> None:
    command = [sys.executable, str(EXAMPLES / "one_process.py"), "--config", str(PIXELS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert "images need `ldcq run`, then examples/act.py" in done.stderr


@pytest.mark.xdist_group("pipeline")
def test_both_kinds_of_policy_play_the_same_episodes(
    finished: tuple[Path, dict[str, Any]], exported: Path, served: str
) -> None:
    settings = ("--store", finished[0], "--episodes", "2", "--seed", "3")
    printed = _run("act.py", exported, *settings)
    assert printed.count("return") == 2
    assert _run("act.py", served, *settings) == printed
