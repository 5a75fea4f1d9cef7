"""The latents of all windows as a Zarr v3 table: one writer, whole shards, checked on reading."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import zarr
from pydantic import JsonValue

from common.store.artifacts import Store
from common.store.errors import CorruptArtifactError, LineageError, MissingArtifactError, StoreError
from common.store.files import WriterLock, move_into_place, sync_tree
from common.store.files import write_durably as write
from common.store.meta import Meta, digest, meta_bytes, read_meta

CHUNK_BYTES = 1 << 20
CHUNKS_PER_SHARD = 16


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
        """Takes the writer's lock and starts an empty table.

        Args:
            store: Where.
            meta: What it is; its kind is "latents" and its parents name the VAE and the dataset.
            rows: M, rows in all.
            columns: Element type and shape of one row, by name.
        """
        if meta.kind != "latents":
            raise StoreError(f"meta.kind: got {meta.kind!r}, expected 'latents'")
        if rows < 1:
            raise StoreError(f"rows: got {rows}, expected at least 1")
        self._store, self._meta, self._rows = store, meta, rows
        self.version = digest(meta.model_dump(mode="json"))
        folder = store.folder("latents")
        self._lock = WriterLock(folder / f".{self.version}.lock", f"latents {self.version}")
        # Under the lock the name can be fixed: what lies there is left of a writer that died.
        self._temporary = folder / f".{self.version}.partial"
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._group = zarr.create_group(self._temporary, zarr_format=3)
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
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._lock.release()

    def write(self, start: int, **columns: npt.ArrayLike) -> None:
        """Appends rows.

        Args:
            start: Index of the first; rows come in order, without gaps.
            columns: All columns, each (rows, ...).

        Raises:
            StoreError: Rows out of order or beyond M; a column missing, unknown or misshapen.
        """
        if set(columns) != set(self._columns):
            raise StoreError(f"columns: got {sorted(columns)}, expected {sorted(self._columns)}")
        if start != self._written:
            raise StoreError(f"start: got {start}, expected {self._written}, the rows so far")
        arrays = {
            name: np.asarray(value, dtype=self._columns[name].dtype)
            for name, value in columns.items()
        }
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
        """Makes the table visible and points the variant to it.

        Returns:
            The version.

        Raises:
            StoreError: Rows are missing.
        """
        if self._written != self._rows:
            raise StoreError(
                f"latents {self.version}: {self._written} of {self._rows} rows written"
            )
        checksums: dict[str, JsonValue] = {
            name: column.finish() for name, column in self._columns.items()
        }
        self._group.attrs.update({"rows": self._rows, "sha256": checksums})
        write(self._temporary / "meta.json", meta_bytes(self._meta))
        sync_tree(self._temporary)
        final = self._store.folder("latents") / self.version
        if final.exists() and not _is_whole(final):
            final.rename(final.with_name(f".damaged-{self.version}-{uuid.uuid4().hex[:8]}"))
        move_into_place(self._temporary, final)
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


@dataclass(frozen=True)
class LatentTable:
    """All windows with their latents, in memory. M windows, float32 unless said otherwise.

    Attributes:
        version: Of the table.
        meta: Its meta; `meta.parents["vae"]` made it.
        state: s_t, raw, (M, S).
        latent_mean: Mean of q(z | tau), (M, Z).
        latent_std: Standard deviation of q(z | tau), (M, Z).
        reward: r_{t:t+H}, the discounted sum over the window, (M,).
        discount: gamma^H, or 0 after a true termination inside the window, (M,).
        next_state: s_{t+H}, raw, (M, S).
        episode: Index of the episode, (M,) int64.
        step: Of the window's start within the episode, (M,) int64.
        validation: Whether the episode is kept from training, (M,) bool.
    """

    version: str
    meta: Meta
    state: np.ndarray
    latent_mean: np.ndarray
    latent_std: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    next_state: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    validation: np.ndarray


def open_latents(
    store: Store, version: str | None = None, *, vae_version: str | None = None
) -> LatentTable:
    """Reads a latent table and verifies every column against its checksum.

    Args:
        store: Where.
        version: Which; None: the current one of the main pipeline.
        vae_version: The VAE that must have made them; None: any.

    Raises:
        MissingArtifactError: There are none (yet).
        CorruptArtifactError: A column is missing, damaged or cut short.
        LineageError: Another VAE made them.
    """
    if version is None:
        version = store.current("latents")
        if version is None:
            raise MissingArtifactError(
                f"no latents in {store.folder('latents')}; made by `ldcq train vae`"
            )
    folder = store.folder("latents") / version
    meta = _meta_of(folder, vae_version)
    names = [field.name for field in fields(LatentTable) if field.name not in ("version", "meta")]
    return LatentTable(version=version, meta=meta, **_read_columns(folder, names))


@dataclass(frozen=True)
class LatentStream:
    """A latent table that stays on disk.

    Attributes:
        version: Of the table.
        meta: As of `LatentTable`.
        validation: Whether the episode of a window is kept from training, (M,) bool, in memory.
    """

    version: str
    meta: Meta
    validation: np.ndarray
    _columns: Mapping[str, zarr.Array[Any]]

    def __len__(self) -> int:
        return len(self.validation)

    def width(self, column: str) -> int:
        """Entries of a row of a column."""
        return int(np.prod(self._columns[column].shape[1:], dtype=np.int64))

    def read(self, column: str, start: int, end: int) -> np.ndarray:
        """Rows `start` to `end` of a column of `LatentTable`."""
        return np.asarray(self._columns[column][start:end])


def stream_latents(
    store: Store, version: str, *, vae_version: str | None = None, most: int = 1 << 22
) -> LatentStream:
    """Opens a latent table without holding it, and verifies every column piece by piece.

    Args:
        store: Where.
        version: Which.
        vae_version: The VAE that must have made them; None: any.
        most: Bytes of a column looked at at once.

    Raises:
        CorruptArtifactError: A column is missing, damaged or cut short.
        LineageError: Another VAE made them.
    """
    folder = store.folder("latents") / version
    meta = _meta_of(folder, vae_version)
    names = [field.name for field in fields(LatentTable) if field.name not in ("version", "meta")]
    columns: dict[str, zarr.Array[Any]] = {}
    with _damage_explained(folder):
        group = zarr.open_group(folder, mode="r", zarr_format=3)
        checksums: Any = group.attrs["sha256"]
        for name in names:
            array = group[name]
            assert isinstance(array, zarr.Array)
            count = int(array.shape[0])
            rows = max(1, most * count // max(1, array.nbytes))
            found = hashlib.sha256()
            for start in range(0, count, rows):
                found.update(np.ascontiguousarray(array[start : start + rows]).data)
            if found.hexdigest() != checksums[name]:
                raise CorruptArtifactError(
                    f"latents {version}: column {name} is damaged or cut short; {_advice(folder)}"
                )
            columns[name] = array
        validation = np.asarray(columns["validation"][:])
    return LatentStream(version, meta, validation, columns)


def latents_size(store: Store, version: str) -> int:
    """Bytes a latent table takes in memory.

    Raises:
        CorruptArtifactError: It cannot be read.
    """
    folder = store.folder("latents") / version
    with _damage_explained(folder):
        group = zarr.open_group(folder, mode="r", zarr_format=3)
        checksums: Any = group.attrs["sha256"]
        arrays: list[Any] = [group[name] for name in checksums]
        return sum(int(array.nbytes) for array in arrays)


def _meta_of(folder: Path, vae_version: str | None) -> Meta:
    meta = read_meta(folder)
    made_by = meta.parents.get("vae")
    if vae_version is not None and made_by != vae_version:
        raise LineageError(
            f"latents {folder.name} were made by VAE {made_by}, expected VAE {vae_version}"
        )
    return meta


def _advice(folder: Path) -> str:
    return f"delete the folder {folder} and start the vae stage again"


@contextmanager
def _damage_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # whatever Zarr makes of a damaged file
        raise CorruptArtifactError(
            f"latents {folder.name}: cannot read {folder} ({error}); {_advice(folder)}"
        ) from error


def _read_columns(folder: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    advice = _advice(folder)
    columns: dict[str, np.ndarray] = {}
    name = "its index"
    try:
        group = zarr.open_group(folder, mode="r", zarr_format=3)
        checksums: Any = group.attrs["sha256"]
        for name in names if names is not None else list(checksums):
            expected = checksums[name]
            array = group[name]
            assert isinstance(array, zarr.Array)
            values = np.ascontiguousarray(array[:])
            # Zarr fills what is missing with zeros without a word, hence a checksum of our own.
            if hashlib.sha256(values.data).hexdigest() != expected:
                raise CorruptArtifactError(
                    f"latents {folder.name}: column {name} is damaged or cut short; {advice}"
                )
            columns[name] = values
    except StoreError:
        raise
    except Exception as error:  # whatever Zarr makes of a damaged file
        raise CorruptArtifactError(
            f"latents {folder.name}: cannot read {name} in {folder} ({error}); {advice}"
        ) from error
    return columns


def _is_whole(folder: Path) -> bool:
    try:
        read_meta(folder)
        _read_columns(folder)
    except StoreError:
        return False
    return True
