"""How much memory a program of its own takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def held() -> int:
    """Bytes this process holds."""
    return _status("VmRSS")


def peak() -> int:
    """Bytes this process has held at most."""
    # Not getrusage's, which starts at what the parent had.
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key))) << 10


def run_measured(program: str, *arguments: object) -> list[int]:
    """Runs a program in a fresh process; the numbers it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=200,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    return [int(number) for number in done.stdout.split()]
