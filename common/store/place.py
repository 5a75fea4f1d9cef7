"""Where what is published lies: what a store needs of a folder; `bucket.py` has the same on S3."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from common.store.files import WriterLock, replace_atomically, sync_folder, sync_tree

if TYPE_CHECKING:
    from common.store.bucket import BucketPlace

META = "meta.json"
"""Every whole folder has one; it is the last that is written."""


class FolderPlace:
    """Files by key, `artifacts/vae/<version>/meta.json`, and folders of them that appear whole, by
    one rename.

    What is written can be read by every process at once, and survives the writer's end. What the
    place does not take (a full disk, no right to write) is an OSError or a StoreError.
    """

    def __init__(self, root: Path, under: Path | None = None) -> None:
        """The folder, which exists; what it lacks is read from the folder `under` it, if any."""
        self.root = root
        self._roots = [root] if under is None else [root, under]

    def where(self, key: str) -> str:
        """The full name of a file or folder, for people."""
        return str(self._path(key))

    def _path(self, key: str) -> Path:
        found = (root / key for root in self._roots if (root / key).exists())
        return next(found, self.root / key)

    def read(self, key: str) -> bytes | None:
        """A file's content, or None where there is none."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """Puts a file in place: readers see the old content or the new."""
        path = self.root / key
        if len(self._roots) > 1:
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, data)

    def remove(self, key: str) -> None:
        """Removes a file, or a folder and all below it; harmless where there is nothing."""
        path = self.root / key
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in a folder, sorted."""
        return self._names(folder, "*", Path.is_file)

    def wholes(self, folder: str) -> list[str]:
        """Names of the whole folders directly in a folder, sorted; hidden ones are not whole."""
        return self._names(folder, "[!.]*", Path.is_dir)

    def _names(self, folder: str, pattern: str, wanted: Callable[[Path], bool]) -> list[str]:
        paths = (path for root in self._roots for path in (root / folder).glob(pattern))
        return sorted({path.name for path in paths if wanted(path)})

    def keys(self, folder: str) -> set[str]:
        """All files below a folder, relative to it."""
        root = self._path(folder)
        found = (Path(base) / name for base, _, names in os.walk(root) for name in names)
        return {path.relative_to(root).as_posix() for path in found}

    def is_whole(self, folder: str) -> bool:
        """Whether a folder has been published."""
        return self._path(folder).is_dir()

    def add(self, folder: str, files: Mapping[str, bytes], *, replace: bool = False) -> None:
        """Publishes a folder: it is seen with all its files or not at all.

        Args:
            folder: Its key; where it is whole already nothing happens, unless it is to be replaced.
            files: By name.
            replace: What is there is damaged.
        """
        if self.is_whole(folder) and not replace:
            return
        parent, _, name = folder.rpartition("/")
        staged = f"{parent}/.tmp-{name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        (self.root / staged).mkdir(parents=True)
        try:
            for name, data in files.items():
                (self.root / staged / name).write_bytes(data)
            self.publish(staged, folder, replace=replace)
        finally:
            self.remove(staged)

    def publish(self, staged: str, final: str, *, replace: bool = False) -> None:
        """Gives a complete folder its final name, as `add` would; `staged` is gone then."""
        self.sync(staged)
        path = self.root / final
        if replace and path.exists():
            # Damaged on disk: readers refuse it, so that moving it takes nothing away.
            path.rename(path.with_name(f".damaged-{path.name}-{uuid.uuid4().hex[:8]}"))
        try:
            (self.root / staged).rename(path)
        except OSError:
            if not path.is_dir():
                raise
            self.remove(staged)  # another process has published the same folder first
        else:
            sync_folder(path.parent)

    def zarr(self, folder: str) -> Any:
        """The folder as Zarr takes it."""
        return self._path(folder)

    def sync(self, folder: str) -> None:
        """Waits until all that was written below a folder stays."""
        sync_tree(self.root / folder)

    def lock(self, key: str, what: str) -> WriterLock:
        """Makes this process the writer of `what`: the only one, or on S3 the only one of this
        machine.

        Raises:
            StoreError: Another process is; the message names it.
        """
        return WriterLock(self.root / key, what)


Place: TypeAlias = "FolderPlace | BucketPlace"


def local_root(url: str | Path) -> Path:
    """The folder of this machine for what a store does not share: datasets, checkpoints, logs.

    A store in a folder shares all of it: the folder itself. One on S3 has a folder of its own on
    every machine, in LDCQ_SCRATCH or else in the user's cache.
    """
    return scratch(url) if is_remote(url) else Path(url).expanduser().absolute()


def scratch(url: str | Path) -> Path:
    """The folder of this machine for a store that it cannot write to, or that is on S3."""
    base = os.environ.get("LDCQ_SCRATCH") or Path.home() / ".cache" / "ldcq"
    name = str(url).partition("://")[2] if is_remote(url) else str(local_root(url))
    return Path(base).expanduser().absolute() / name.strip("/")


def beside(root: Path) -> Path:
    """The folder of this machine for what is made from the read-only store in `root`. It shows the
    datasets and the logs of that store as its own. Where it cannot be had, the store itself: to
    serve and to look at it needs nothing more.
    """
    folder = scratch(root)
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        return root
    with suppress(OSError):
        for name in ("datasets", "logs"):
            if (root / name).is_dir() and not os.path.lexists(folder / name):
                (folder / name).symlink_to(root / name)
    return folder


def is_remote(url: str | Path) -> bool:
    """Whether a store is on S3, and not a folder."""
    return "://" in str(url)
