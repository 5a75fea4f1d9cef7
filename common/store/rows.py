"""Room for a stage's data: in memory as far as `training.memory` allows, beyond that on disk."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.store.errors import StoreError

SHARE = 4
"""Of the memory there is, one part in this many is for a stage's data unless told otherwise; while
it is read it may be there twice."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_LOGGER = logging.getLogger(__name__)


class Room:
    """Makes empty arrays: calling it is calling `numpy.empty`.

    What does not fit into memory any more is a `numpy.memmap` of a file that has no name. Its disk
    space is free again when the array is gone or the process has ended, however it ended.
    """

    def __init__(self, folder: Path, memory: int | None) -> None:
        """Takes nothing yet.

        Args:
            folder: Where there is room on disk.
            memory: MiB that the arrays may take in memory together (`training.memory`); None: a
                quarter of the machine's memory, or of the container's.
        """
        self._folder, self._said = folder, False
        self._left = _default_limit() if memory is None else memory << 20

    def __call__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array whose content is undefined.

        Raises:
            StoreError: The disk does not take it.
        """
        size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        if size <= self._left:
            self._left -= size
            return np.empty(shape, dtype)
        if not self._said:
            _LOGGER.info("data that do not fit into memory are kept on disk in %s", self._folder)
            self._said = True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder) as file:
                # Reserved now: writing to a page without room on disk would end the process.
                os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, dtype, "r+", shape=shape)
        except OSError as error:
            raise StoreError(
                f"rows kept on disk in {self._folder}: {error}; expected room there for the data "
                "that training.memory does not allow in memory"
            ) from error


def _default_limit() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    container = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    return min(machine, int(container) if container.isdigit() else machine) // SHARE
