"""How long an experiment took, over all the calls that it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.store import Store, digest
from common.store.files import replace_atomically


@dataclass
class WallClock:
    """The time of one experiment.

    Attributes:
        before: Seconds of interrupted calls, or of those that made the result before this one.
        started: When this call began.
        idle: This call found everything there.
    """

    before: float
    started: float
    idle: bool = False

    def seconds(self) -> float:
        """Seconds until now."""
        return self.before if self.idle else self.before + time.monotonic() - self.started


@contextmanager
def wall_clock(store: Store, command: str, made: Callable[[], object]) -> Iterator[WallClock]:
    """Times a call, and adds the interrupted ones before it.

    A call after a complete one that makes nothing new takes no time of its own; one that does
    starts from nothing.

    Args:
        store: Keeps the time; a process killed outright takes its time with it.
        command: What is timed.
        made: What the store holds, to be compared.
    """
    path = store.root / "timings" / "experiment" / f"{digest(command)}.json"
    known, complete = _read(path)
    held = made()
    clock = WallClock(0.0 if complete else known, time.monotonic())
    done = False
    try:
        yield clock
        clock.idle = complete and made() == held
        if clock.idle:
            clock.before = known
        done = True
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"seconds": clock.seconds(), "complete": done, "command": command}
        replace_atomically(path, json.dumps(content).encode())


def _read(path: Path) -> tuple[float, bool]:
    try:
        content = json.loads(path.read_text())
        return float(content["seconds"]), bool(content["complete"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0.0, False
