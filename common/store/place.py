"""Where what is published lies: what a store needs of a folder, or of a bucket."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from common.store.files import (
    WriterLock,
    move_into_place,
    replace_atomically,
    staging_folder,
    sync_folder,
    sync_tree,
    write_durably,
)

META = "meta.json"
"""Every whole folder has one; it is the last that is written."""


class Place(Protocol):
    """Files by key, `artifacts/vae/<version>/meta.json`, and folders of them that appear whole.

    What is written can be read by every process at once, and survives the writer's end. What the
    place does not take (a full disk, no right to write) is an OSError or a StoreError.
    """

    def where(self, key: str) -> str:
        """The full name of a file or folder, for people."""

    def read(self, key: str) -> bytes | None:
        """A file's content, or None where there is none."""

    def write(self, key: str, data: bytes) -> None:
        """Puts a file in place: readers see the old content or the new."""

    def remove(self, key: str) -> None:
        """Removes a file, or a folder and all below it; harmless where there is nothing."""

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, sorted."""

    def wholes(self, folder: str) -> list[str]:
        """Names of the whole folders directly in a folder, sorted; hidden ones are not whole."""

    def keys(self, folder: str) -> set[str]:
        """All files below a folder, relative to it."""

    def is_whole(self, folder: str) -> bool:
        """Whether a folder has been published."""

    def add(self, folder: str, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        """Publishes a folder: it is seen with all its files or not at all.

        Args:
            folder: Its key; where it is whole already nothing happens, unless it is to be replaced.
            files: By name.
            replace: What is there is damaged.
        """

    def publish(self, staged: str, final: str, *, replace: bool = False) -> None:
        """Gives a complete folder its final name, as `add` would; `staged` is gone then."""

    def zarr(self, folder: str) -> Any:
        """The folder as Zarr takes it."""

    def sync(self, folder: str) -> None:
        """Waits until all that was written below a folder stays."""

    def lock(self, key: str, what: str) -> WriterLock:
        """Makes this process the writer of `what`: the only one, or on S3 the only one of this
        machine.

        Raises:
            StoreError: Another process is; the message names it.
        """


class FolderPlace:
    """A folder on a file system; what is whole appears there by one rename."""

    def __init__(self, root: Path) -> None:
        """The folder, which exists."""
        self.root = root

    def where(self, key: str) -> str:
        """See `Place`."""
        return str(self.root / key)

    def read(self, key: str) -> bytes | None:
        """See `Place`."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """See `Place`."""
        replace_atomically(self.root / key, data)

    def remove(self, key: str) -> None:
        """See `Place`."""
        path = self.root / key
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """See `Place`."""
        path = self.root / folder
        return sorted(p.name for p in path.iterdir() if p.is_file()) if path.is_dir() else []

    def wholes(self, folder: str) -> list[str]:
        """See `Place`."""
        path = self.root / folder
        if not path.is_dir():
            return []
        return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))

    def keys(self, folder: str) -> set[str]:
        """See `Place`."""
        root = self.root / folder
        found = (Path(base) / name for base, _, names in os.walk(root) for name in names)
        return {path.relative_to(root).as_posix() for path in found}

    def is_whole(self, folder: str) -> bool:
        """See `Place`."""
        return (self.root / folder).is_dir()

    def add(self, folder: str, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        """See `Place`."""
        final = self._vacated(folder, replace)
        if final.exists():
            return
        with staging_folder(final.parent, final.name) as temporary:
            for name, data in files.items():
                write_durably(temporary / name, data)
            sync_folder(temporary)
            move_into_place(temporary, final)

    def publish(self, staged: str, final: str, *, replace: bool = False) -> None:
        """See `Place`."""
        self.sync(staged)
        move_into_place(self.root / staged, self._vacated(final, replace))

    def zarr(self, folder: str) -> Path:
        """See `Place`."""
        return self.root / folder

    def sync(self, folder: str) -> None:
        """See `Place`."""
        sync_tree(self.root / folder)

    def lock(self, key: str, what: str) -> WriterLock:
        """See `Place`."""
        return WriterLock(self.root / key, what)

    def _vacated(self, folder: str, replace: bool) -> Path:
        final = self.root / folder
        if replace and final.exists():
            # Damaged on disk: readers refuse it, so that moving it takes nothing away.
            final.rename(final.with_name(f".damaged-{final.name}-{uuid.uuid4().hex[:8]}"))
        return final


def local_root(url: str | Path) -> Path:
    """The folder of this machine for what a store does not share: datasets, checkpoints, logs.

    A store in a folder shares all of it: the folder itself. One on S3 has a folder of its own on
    every machine, in LDCQ_SCRATCH or else in the user's cache.
    """
    if not is_remote(url):
        return Path(url).expanduser().absolute()
    base = os.environ.get("LDCQ_SCRATCH") or Path.home() / ".cache" / "ldcq"
    return Path(base).expanduser().absolute() / str(url).partition("://")[2].strip("/")


def is_remote(url: str | Path) -> bool:
    """Whether a store is on S3, and not a folder."""
    return "://" in str(url)
