"""How much memory a program of its own takes, pages of mapped files apart.

Such pages count as resident, but the kernel takes them back as it needs them: what a process really
holds is its anonymous memory. Linux records no maximum of that, so it is watched.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def most_taken(function: Callable[[], object]) -> int:
    """Bytes of anonymous memory that this process takes at most, beyond what it has, for a call."""
    before = most = _anonymous()
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.002):
            most = max(most, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        kept = function()
        most = max(most, _anonymous())
        del kept
    finally:
        ended.set()
        watcher.join()
    return most - before


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) << 10


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
