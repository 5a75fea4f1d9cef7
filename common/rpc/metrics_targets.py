"""Where the processes of a run serve their metrics: a file each, in Prometheus' file_sd format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from common.store.files import replace_atomically


def announce(file: Path, address: str) -> None:
    """Writes `host:port` of a process's endpoint; the process is named as the file is, for example
    `prior-0.json`.

    Raises:
        OSError: It cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    group = {"targets": [address], "labels": {"process": file.stem}}
    replace_atomically(file, json.dumps([group]).encode())


def addresses(folder: Path) -> dict[str, str]:
    """The endpoint of every process that has announced one in `folder`, by the process's name."""
    found = {}
    for file in folder.glob("*.json"):
        try:
            (group,) = json.loads(file.read_text())
            found[group["labels"]["process"]] = group["targets"][0]
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            continue  # it drained meanwhile, or the file is nobody's announcement
    return found


def clear(folder: Path, keep: Iterable[str] = ()) -> None:
    """Removes what was left by processes that were killed, all but those to `keep`; the folder
    stays, it may be mounted.
    """
    kept = set(keep)
    for file in folder.glob("*.json"):
        if file.stem not in kept:
            file.unlink(missing_ok=True)
