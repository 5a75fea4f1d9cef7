"""Rows that do not fit into memory: in a nameless file, read one by one where they are needed."""

from __future__ import annotations

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


def fits_in_memory(size: int, limit: int | None) -> bool:
    """Whether data may be held in memory as a whole.

    Args:
        size: Bytes.
        limit: MiB allowed (`training.memory`); None: a quarter of the machine's memory, or of the
            container's.
    """
    if limit is not None:
        return size <= limit << 20
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    container = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    return size <= min(machine, int(container) if container.isdigit() else machine) // SHARE


class RowFile:
    """An array on disk that is written once from front to back and indexed like one in memory.

    It holds nothing but what is asked for. The file has no name and is gone with the process,
    however that ends.
    """

    def __init__(self, folder: Path, dtype: npt.DTypeLike, shape: tuple[int, ...] = ()) -> None:
        """Starts an empty one.

        Args:
            folder: Where there is room for it.
            dtype: Of the elements.
            shape: Of one row.

        Raises:
            StoreError: The folder does not take it.
        """
        self.dtype, self._row_shape, self._folder = np.dtype(dtype), shape, folder
        self._row_bytes = self.dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        self._rows = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as self
        except OSError as error:
            raise self._refused(error) from error

    def __len__(self) -> int:
        return self._rows

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return self._rows, *self._row_shape

    def append(self, rows: npt.ArrayLike) -> None:
        """Writes further rows, (B, ...).

        Raises:
            StoreError: The disk is full.
            ValueError: They are of another shape.
        """
        values = np.ascontiguousarray(rows, self.dtype)
        if values.shape[1:] != self._row_shape:
            raise ValueError(f"rows: got shape {values.shape}, expected (B, *{self._row_shape})")
        try:
            self._file.write(values.data)
            self._file.flush()
        except OSError as error:
            raise self._refused(error) from error
        self._rows += len(values)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Some rows, as of an array in memory: a slice without a step, or indices of any shape."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self._rows)
            whole: npt.NDArray[Any] = self.spans(np.array([start]), max(stop - start, 0))[0]
            return whole
        return self.spans(rows.ravel(), 1).reshape(*rows.shape, *self._row_shape)

    def spans(self, first: npt.NDArray[np.int64], count: int) -> npt.NDArray[Any]:
        """Neighbouring rows from each of `first` on, (B, count, ...).

        Raises:
            IndexError: A row out of range.
            StoreError: The file cannot be read.
        """
        if len(first) and not 0 <= first.min() <= first.max() <= self._rows - count:
            raise IndexError(
                f"rows {first.min()} to {first.max() + count}: expected 0 to {self._rows}"
            )
        read = np.empty((len(first), count * self._row_bytes), np.uint8)
        for target, row in zip(read, first.tolist(), strict=True):
            self._fill(target.data, row * self._row_bytes)
        return read.view(self.dtype).reshape(len(first), count, *self._row_shape)

    def _fill(self, target: memoryview, offset: int) -> None:
        done = 0
        while done < len(target):  # one call reads 2 GiB at most
            try:
                got = os.preadv(self._file.fileno(), [target[done:]], offset + done)
            except OSError as error:
                raise self._refused(error) from error
            if not got:
                raise self._refused("it ends too early")
            done += got

    def _refused(self, reason: object) -> StoreError:
        return StoreError(
            f"rows kept on disk in {self._folder}: {reason}; expected room there for the data that "
            "training.memory does not allow in memory"
        )


def spans(
    values: npt.NDArray[Any] | RowFile, first: npt.NDArray[np.int64], count: int
) -> npt.NDArray[Any]:
    """Neighbouring rows from each of `first` on, (B, count, ...), in memory or on disk."""
    if isinstance(values, RowFile):
        return values.spans(first, count)
    gathered: npt.NDArray[Any] = values[first[:, None] + np.arange(count)]
    return gathered
