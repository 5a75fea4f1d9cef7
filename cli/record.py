"""What runs where: `processes.json` in the folder of a run, for the commands beside the run."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from common.rpc import targets

Process = dict[str, Any]
"""`name`, `pid`, `address`, `reports` (it runs a stage), `replica_of` (the variant whose prior it
serves, or None), `draining` (it ends once its calls are answered)."""

_LOG = logging.getLogger(__name__)
_NAME = "processes.json"
_GRACE = 15.0


def metrics_folder(folder: Path) -> Path:
    """Where the processes of the run in `folder` say where their metrics are, a file each."""
    return folder / "metrics"


def write(folder: Path, processes: list[Process]) -> None:
    """Replaces the record of the run in `folder`."""
    path = folder / _NAME
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(processes, indent=2))
    partial.replace(path)
    targets.clear(metrics_folder(folder), keep=(process["name"] for process in processes))


def read(folder: Path) -> list[Process]:
    """The processes of the run in `folder`; none where no run is active."""
    try:
        found: list[Process] = json.loads((folder / _NAME).read_text())
    except FileNotFoundError:
        return []
    return found


def forget(folder: Path) -> None:
    """Says that no run is active."""
    (folder / _NAME).unlink(missing_ok=True)
    targets.clear(metrics_folder(folder))


def end_leftovers(folder: Path) -> None:
    """Waits for the processes of a run whose launcher was killed, and kills what stays.

    They notice the launcher's end by themselves and save what they have; two writers of one stage
    would be in each other's way.
    """
    left = [item for item in read(folder) if is_running(item)]
    deadline = time.monotonic() + _GRACE
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [item for item in left if is_running(item)]
    for item in left:
        _LOG.warning("%s (process %d) did not end; killing it", item["name"], item["pid"])
        os.kill(item["pid"], signal.SIGKILL)
    forget(folder)


def is_running(item: dict[str, Any]) -> bool:
    """Whether that very process of a record runs: its number may be another's by now, the
    address is its.
    """
    process = Path(f"/proc/{item['pid']}")
    try:
        command = (process / "cmdline").read_bytes().split(b"\0")
        if command == [b""]:
            # It has died, or it was started so recently that the kernel has not noted its command.
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            return state != "Z"
    except OSError:
        return False
    return str(item["address"]).encode() in command
