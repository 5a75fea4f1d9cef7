"""A folder as a user without the right to write sees it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only(folder: Path, at: Path) -> Iterator[Path]:
    """The same folder at `at`, where nobody can write; root mounts it, others lack the rights.

    Skips the test where neither can be had.
    """
    at.mkdir()
    if os.geteuid() != 0:
        at.rmdir()
        at.symlink_to(folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
    elif subprocess.run(["mount", "--bind", folder, at], check=False).returncode:
        pytest.skip("root can write everywhere, and mounting is not allowed here")
    else:
        subprocess.run(["mount", "-o", "remount,bind,ro", at], check=True)
    try:
        yield at
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "--lazy", at], check=True)
        else:
            for path in (folder, *folder.rglob("*")):
                path.chmod(path.stat().st_mode | 0o200)
