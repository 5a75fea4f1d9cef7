"""Durable, all-or-nothing file operations: what is visible under its final name is complete."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from common.store.errors import StoreError

_SPACE = "free space on that disk, or choose another --store"
_RIGHTS = "give this user the right to write there, or choose another --store"
_THERE = "bring that folder or disk back, or choose another --store"
DISK_ERRORS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _SPACE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _RIGHTS),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.EIO, errno.ENODEV), _THERE),
}
"""What to do where the disk refuses, by the number of the error."""


def refusal(error: OSError) -> str:
    """Why the disk refused something, and what to do."""
    advice = DISK_ERRORS.get(error.errno or 0)
    reason = error.strerror or str(error)
    return f"{reason}; {advice}: the same command resumes" if advice else reason


def replace_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path`: a reader sees the old content or the new, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
    with naming(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the disk meanwhile names this file: a full disk names none by itself."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Waits until the names in `folder` are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """Waits until every file and folder below `root` is on disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(folder))


class WriterLock:
    """One writer at a time, across processes; the kernel frees the lock however its holder dies.

    Raises:
        StoreError: Another process (or object) holds it; the message names the holder.
    """

    def __init__(self, path: Path, what: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Never unlinked: a lock file that disappears under a waiting process admits two writers.
        self._file: IO[str] = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise StoreError(
                f"{what} is being written by {holder} (lock {path}); "
                "wait for it, or end that process: its lock goes with it"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Lets the next writer in; harmless when called twice."""
        self._file.close()
