"""A disk that fills up, and a store that goes away, under a run: one line, no traceback."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import PATIENCE, TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("pipeline")]
RUN = [sys.executable, "-m", "cli.main", "run", str(TINY), "--store"]


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("600k", "MB free, expected 2.0 MB for 4000 steps; free space on that disk"),
        ("2200k", "No space left on device; free space on that disk, or choose another --store"),
    ],
)
def test_a_full_disk(tmp_path: Path, size: str, message: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk has to be mounted, which is not allowed here")
    try:
        done = subprocess.run(
            [*RUN, str(disk / "store")],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        logs = "".join(path.read_text() for path in disk.glob("store/run/*.log"))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr + logs


def test_a_store_that_goes_away(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with subprocess.Popen([*RUN, str(store)], stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + PATIENCE
        while not (store / "logs" / "critic").is_dir():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        store.rename(tmp_path / "elsewhere")
        said = run.communicate(timeout=PATIENCE)[1]
    assert run.returncode == 2, said
    assert "No such file or directory; bring that folder or disk back" in said
    assert "Traceback" not in said
