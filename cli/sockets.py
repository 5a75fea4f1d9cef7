"""Where the processes of a run listen: a folder of the launcher's own, gone with it."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

_PREFIX = "ldcq-"
_OWNER = "owner"
"""A file that the launcher locks as long as it lives; the kernel ends the lock however it dies."""


@contextmanager
def socket_folder() -> Iterator[Path]:
    """An empty folder outside of the store: the path of a socket may have 107 bytes only. Removes
    the folders of launchers that were killed.
    """
    for left in Path(gettempdir()).glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    with TemporaryDirectory(prefix=_PREFIX) as folder, (Path(folder) / _OWNER).open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        yield Path(folder)


def _remove_if_left(folder: Path) -> None:
    try:
        with (folder / _OWNER).open("r+") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # another user's, none of ours, or its launcher lives
