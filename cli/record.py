"""The folder of a run, for the commands beside it: what runs where, and how many prior servers it
shall have.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from common.rpc import metrics_targets
from common.store import StoreError
from common.store.files import replace_atomically

Process = dict[str, Any]
"""`name`, `pid`, `address`, `reports` (it runs a stage), `replica_of` (the variant whose prior it
serves, or None), `draining` (it ends once its calls are answered), `started` (see `is_running`)."""

_LOG = logging.getLogger(__name__)
_NAME = "processes.json"
_REPLICAS = "replicas."
_GRACE = 15.0
_STARTTIME = 18
"""Where it is among what /proc/PID/stat says after the state."""


def metrics_folder(folder: Path) -> Path:
    """Where the processes of the run in `folder` say where their metrics are, a file each."""
    return folder / "metrics"


def write(folder: Path, processes: list[Process]) -> None:
    """Replaces the record of the run in `folder`; adds when each process began."""
    dated = [{**process, "started": _started(process["pid"])} for process in processes]
    replace_atomically(folder / _NAME, json.dumps(dated, indent=2).encode())
    metrics_targets.clear(metrics_folder(folder), keep=(process["name"] for process in processes))


def read(folder: Path) -> list[Process]:
    """The processes of the run in `folder`; none where no run is active.

    Raises:
        StoreError: The file holds something else.
    """
    path = folder / _NAME
    try:
        found: list[Process] = json.loads(path.read_text())
        return [{**item, "name": item["name"], "pid": int(item["pid"])} for item in found]
    except FileNotFoundError:
        return []
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f"{path} is no list of a run's processes ({error}); end those that `ps` shows as "
            "ldcq, then delete the file"
        ) from error


def forget(folder: Path) -> None:
    """Says that no run is active."""
    (folder / _NAME).unlink(missing_ok=True)
    metrics_targets.clear(metrics_folder(folder))


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
    """Whether that very process of a record runs: its number may be another's by now, which began
    at another time.
    """
    started = item.get("started")  # None: it had ended when it was recorded
    return started is not None and started == _started(item["pid"])


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks since the start; None where it has ended."""
    try:
        # The name, in parentheses, may hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(fields[_STARTTIME])


class WantedReplicas:
    """The number of prior servers wanted for each variant of the run in a folder: written by
    `ldcq scale`, followed by the supervisor; each in a file of its own.

    Files, so that whoever writes needs nothing of a run that may be busy, and a number written
    twice or too late does no harm.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def variants(self) -> list[str]:
        """The variants that have prior servers of their own."""
        names = (path.name for path in self._folder.glob(f"{_REPLICAS}*"))
        return sorted(name.removeprefix(_REPLICAS) for name in names)

    def get(self, variant: str) -> int | None:
        """The number wanted; None where none, or nonsense, is written."""
        try:
            return int((self._folder / f"{_REPLICAS}{variant}").read_text())
        except (OSError, ValueError):
            return None

    def set(self, variant: str, count: int) -> None:
        """Asks for `count` prior servers."""
        replace_atomically(self._folder / f"{_REPLICAS}{variant}", f"{count}\n".encode())

    def clear(self) -> None:
        """Forgets everything: a run starts with what its own command says."""
        for path in self._folder.glob(f"{_REPLICAS}*"):
            path.unlink(missing_ok=True)
