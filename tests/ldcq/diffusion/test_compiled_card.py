"""The GPU's kernel compiled for GPUs that are not here: it fits, and spills little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs triton")

SHARED = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that a tile may have: A100, H100."""
STACK = 256
"""Bytes of a thread's stack; more would be traffic in every step."""
WIDTHS = {"paper": (128, 32, 16, 8, 16, 32, 128), "demo": (64, 64, 64, 64)}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("architecture", SHARED)
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_fits(widths: tuple[int, ...], architecture: int, tmp_path: Path) -> None:
    program = Path(__file__).with_name("compiled_card.py")
    given = json.dumps([widths, "fp16", architecture])
    done = subprocess.run(
        [sys.executable, program, given],
        capture_output=True,
        text=True,
        check=False,
        env={
            **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
            "TRITON_CACHE_DIR": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["stack"] <= STACK, found
    assert found["shared"] <= SHARED[architecture], found
