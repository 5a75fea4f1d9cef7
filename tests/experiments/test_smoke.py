"""Every experiment from nothing to its page, at the scale that only asks whether it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import NAMES
from tests.command import PATIENCE, ldcq

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("pipeline"),
]

OF_OTHERS, OF_OGBENCH = ("door-human", "adroit", "locomotion"), ("antmaze", "manipulation")


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_writes_its_results_and_then_trains_nothing(
    name: str, tmp_path: Path
) -> None:
    if name in OF_OTHERS and "LDCQ_THIRD_PARTY_DATA" not in os.environ:
        pytest.skip(
            "set LDCQ_THIRD_PARTY_DATA to the folder of others' demonstrations and policies"
        )
    if name in OF_OGBENCH:
        pytest.importorskip("ogbench", reason="needs ogbench: pip install 'ldcq[ogbench]'")
    command = ("experiment", name, "--scale", "smoke", "--out", tmp_path, "--json")
    first = json.loads(ldcq(*command).stdout)
    assert first == json.loads((tmp_path / "results.json").read_text())
    assert first["rows"]
    for row in first["rows"]:
        assert {"method", "return", "first_hit", "success", "episodes", "seeds"} <= row.keys()
    page = (tmp_path / "README.md").read_text()
    for picture in first["pictures"]:
        assert (tmp_path / f"{picture}.png").stat().st_size > 1000
        assert f"({picture}.png)" in page
    assert first["command"] in page
    made = _artifacts(tmp_path)
    again = json.loads(ldcq(*command).stdout)
    assert again["rows"] == first["rows"]
    assert _artifacts(tmp_path) == made


def test_an_interrupted_experiment_goes_on_where_it_was(tmp_path: Path) -> None:
    arguments = ["experiment", "steps", "--scale", "smoke", "--out", str(tmp_path), "--json"]
    command = [sys.executable, "-m", "cli.main", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + PATIENCE
        while not list(tmp_path.glob("store/artifacts/vae/*/meta.json")):
            assert process.poll() is None, "it ended before it could be interrupted"
            assert time.monotonic() < deadline, "no VAE was published"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, printed
    assert not (tmp_path / "results.json").exists()
    made = _artifacts(tmp_path)
    assert json.loads(ldcq(*arguments).stdout)["rows"]
    assert {path: at for path, at in _artifacts(tmp_path).items() if path in made} == made


def _artifacts(folder: Path) -> dict[Path, int]:
    """When each was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("store/artifacts/*/*/meta.json")}
