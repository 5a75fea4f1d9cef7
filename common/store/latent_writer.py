"""Writes the latents of all windows as a Zarr v3 table: one writer, whole shards, pointer last."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import zarr

from common.store.artifacts import Store
from common.store.errors import StoreError
from common.store.latents import is_whole
from common.store.meta import Meta, digest, meta_bytes
from common.store.place import META, is_remote

CHUNK_BYTES = 1 << 20
CHUNKS_PER_SHARD = 8


class LatentWriter:
    """Writes one latent table from front to back; readers see it only once it is whole.

    The version is a digest of the meta: latents are a function of their VAE and their data.

    Raises:
        StoreError: Another process is writing this table; the message names it.
    """

    def __init__(
        self,
        store: Store,
        meta: Meta,
        rows: int,
        columns: Mapping[str, tuple[npt.DTypeLike, tuple[int, ...]]],
    ) -> None:
        """Takes the writer's lock and starts an empty table of M rows.

        Args:
            store: Where.
            meta: What it is; its kind is "latents" and its parents name the VAE and the dataset.
            rows: M.
            columns: Element type and shape of one row, by name.
        """
        if meta.kind != "latents":
            raise StoreError(f"meta.kind: got {meta.kind!r}, expected 'latents'")
        if rows < 1:
            raise StoreError(f"rows: got {rows}, expected at least 1")
        self._store, self._meta, self._rows = store, meta, rows
        self.version = digest(meta.model_dump(mode="json"))
        self._place = store.place
        lock = store.key("latents", f".{self.version}.lock")
        self._lock = self._place.lock(lock, f"latents {self.version}")
        # Each writer has a folder of its own: no lock spans the machines that share a bucket.
        self._staging = store.key("latents", f".{self.version}")
        self._temporary = f"{self._staging}/{uuid.uuid4().hex}"
        if not is_remote(store.url):
            self._place.remove(self._staging)  # under the lock: it is of a writer that died
        self._group = zarr.create_group(self._place.zarr(self._temporary), zarr_format=3)
        self._columns = {
            name: _Column(self._group, name, rows, np.dtype(dtype), tuple(shape))
            for name, (dtype, shape) in columns.items()
        }
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the lock and removes what was not published."""
        self._place.remove(self._temporary)
        self._lock.release()

    def write(self, start: int, **columns: npt.ArrayLike) -> None:
        """Appends rows from index `start` on, in order and without gaps, each column (rows, ...).

        Raises:
            StoreError: Rows out of order or beyond M; a column missing, unknown or misshapen.
        """
        if set(columns) != set(self._columns):
            raise StoreError(f"columns: got {sorted(columns)}, expected {sorted(self._columns)}")
        if start != self._written:
            raise StoreError(f"start: got {start}, expected {self._written}, the rows so far")
        kinds = {name: column.dtype for name, column in self._columns.items()}
        arrays = {name: np.asarray(value, kinds[name]) for name, value in columns.items()}
        count = len(next(iter(arrays.values())))
        for name, array in arrays.items():
            expected = (count, *self._columns[name].row_shape)
            if array.shape != expected:
                raise StoreError(f"{name}: got shape {array.shape}, expected {expected}")
        if start + count > self._rows:
            raise StoreError(f"rows {start} to {start + count}: expected at most {self._rows} rows")
        for name, array in arrays.items():
            self._columns[name].append(array)
        self._written += count

    def publish(self, variant: str = "main") -> str:
        """Makes the table visible and points the variant to it; returns the version.

        Raises:
            StoreError: Rows are missing.
        """
        if self._written != self._rows:
            written = f"{self._written} of {self._rows} rows written"
            raise StoreError(f"latents {self.version}: {written}")
        checksums: Any = {name: column.finish() for name, column in self._columns.items()}
        self._group.attrs.update({"rows": self._rows, "sha256": checksums})
        self._place.write(f"{self._temporary}/{META}", meta_bytes(self._meta))
        final = self._store.key("latents", self.version)
        damaged = self._place.is_whole(final) and not is_whole(self._place, final)
        self._place.publish(self._temporary, final, replace=damaged)
        self._place.remove(self._staging)  # what writers that died have left
        self._lock.release()
        self._store.point("latents", self.version, variant)
        return self.version


class _Column:
    """One array of the table, written a whole shard at a time."""

    def __init__(
        self, group: zarr.Group, name: str, rows: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        self.dtype, self.row_shape = dtype, shape
        row_bytes = max(1, dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
        chunk = min(rows, -(-CHUNK_BYTES // row_bytes))
        shard = chunk * min(CHUNKS_PER_SHARD, -(-rows // chunk))
        self._array = group.create_array(
            name,
            shape=(rows, *shape),
            chunks=(chunk, *shape),
            shards=(shard, *shape),
            dtype=dtype,
            # Latents are noise to a compressor: it would cost time and save nothing.
            compressors=None,
        )
        self._buffer = np.empty((min(shard, rows), *shape), dtype)
        self._filled = 0
        self._flushed = 0
        self._hash = hashlib.sha256()

    def append(self, rows: np.ndarray) -> None:
        self._hash.update(np.ascontiguousarray(rows).data)
        while len(rows):
            room = len(self._buffer) - self._filled
            part, rows = rows[:room], rows[room:]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            if self._filled == len(self._buffer):
                self._flush()

    def finish(self) -> str:
        """Writes what is buffered; the checksum of the column."""
        if self._filled:
            self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        end = self._flushed + self._filled
        self._array[self._flushed : end] = self._buffer[: self._filled]
        self._flushed, self._filled = end, 0
