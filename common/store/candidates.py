"""Latents drawn once per state, kept in half precision; a killed writer goes on where it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from common.store.artifacts import Store
from common.store.errors import CorruptArtifactError, MissingArtifactError, StoreError
from common.store.files import WriterLock
from common.store.meta import Meta, digest, meta_bytes
from common.store.place import META
from ldcq.data.episodes import Allocate


class CandidateCache:
    """n candidate latents for each of M states, float16 (M, n, Z); a file per `chunk_rows` states.

    Each chunk file carries its own checksum and appears by a rename, so that a chunk is there and
    right or missing. Readers are served only once all are there.
    """

    def __init__(
        self,
        store: Store,
        meta: Meta,
        rows: int,
        candidates: int,
        latent_dim: int,
        chunk_rows: int,
    ) -> None:
        """Opens the cache of this meta, or starts an empty one.

        Args:
            store: Where.
            meta: What it is; its kind is "candidates", its parents name the prior and the latents.
            rows: M.
            candidates: n.
            latent_dim: Z.
            chunk_rows: Rows of one chunk, the unit of `write`.

        Raises:
            StoreError: A size is less than 1, or `meta` is of another kind.
        """
        if meta.kind != "candidates":
            raise StoreError(f"meta.kind: got {meta.kind!r}, expected 'candidates'")
        names = ("rows", "candidates", "latent_dim", "chunk_rows")
        for name, size in zip(names, (rows, candidates, latent_dim, chunk_rows), strict=True):
            if size < 1:
                raise StoreError(f"{name}: got {size}, expected at least 1")
        self.rows, self._shape = rows, (rows, candidates, latent_dim)
        self.chunk_rows = min(chunk_rows, rows)
        self.chunks = -(-rows // self.chunk_rows)
        self.version = digest([meta.model_dump(mode="json"), *self._shape, self.chunk_rows])
        self._place, self._folder = store.place, store.key("candidates", self.version)
        self._array_folder = f"{self._folder}/latents"
        self._lock_file = store.key("candidates", f".{self.version}.lock")
        self._lock: WriterLock | None = None
        self._meta = meta
        self._array: zarr.Array[Any] | None = None

    def rows_of(self, chunk: int) -> slice:
        """The rows that chunk `chunk` holds; the last may be shorter.

        Raises:
            StoreError: There is no such chunk.
        """
        if not 0 <= chunk < self.chunks:
            raise StoreError(f"chunk: got {chunk}, expected 0 to {self.chunks - 1}")
        return slice(chunk * self.chunk_rows, min(self.rows, (chunk + 1) * self.chunk_rows))

    def missing(self) -> list[int]:
        """Chunks yet to be written, in order; a damaged or cut short one counts as missing."""
        if not self._open(create=False):
            return list(range(self.chunks))
        there = self._there()
        return [chunk for chunk in range(self.chunks) if self._read(chunk, there) is None]

    def write(self, chunk: int, latents: np.ndarray) -> None:
        """Writes one chunk: latents (rows of the chunk, n, Z), rounded to half precision.

        Raises:
            StoreError: Another shape, values beyond half precision, or another process is writing.
        """
        rows = self.rows_of(chunk)
        expected = (rows.stop - rows.start, *self._shape[1:])
        if latents.shape != expected:
            raise StoreError(f"latents: got shape {latents.shape}, expected {expected}")
        with np.errstate(over="ignore"):
            half = latents.astype(np.float16)
        if not np.isfinite(half).all():
            raise StoreError(f"latents of chunk {chunk}: expected finite values below 65504")
        if self._lock is None:
            self._lock = self._place.lock(self._lock_file, f"candidate cache {self.version}")
        self._open(create=True)
        assert self._array is not None
        self._array[rows] = half

    def complete(self) -> None:
        """Declares the cache whole and gives it to readers.

        Raises:
            StoreError: Chunks are missing.
        """
        if missing := self.missing():
            raise StoreError(
                f"candidate cache {self.version}: {len(missing)} of {self.chunks} chunks missing"
            )
        if not self.is_complete:
            self._place.sync(self._folder)
            self._place.write(f"{self._folder}/{META}", meta_bytes(self._meta))
        self.close()

    @property
    def is_complete(self) -> bool:
        """Whether a writer has declared it whole."""
        return self._place.read(f"{self._folder}/{META}") is not None

    def load(self, allocate: Allocate = np.empty) -> np.ndarray:
        """All candidates, float16 (M, n, Z), in an array that `allocate` makes.

        Raises:
            MissingArtifactError: The cache is not complete yet.
            CorruptArtifactError: A chunk is damaged or cut short; `missing` lists it, for `write`.
        """
        if not self.is_complete or not self._open(create=False):
            raise MissingArtifactError(
                f"candidate cache {self.version} in {self._place.where(self._folder)} is not "
                "complete yet"
            )
        latents = allocate(self._shape, np.float16)
        there = self._there()
        for chunk in range(self.chunks):
            values = self._read(chunk, there)
            if values is None:
                raise CorruptArtifactError(
                    f"candidate cache {self.version}: chunk {chunk} is missing, damaged or cut "
                    "short; start the critic stage again, or delete the folder "
                    f"{self._place.where(self._folder)}"
                )
            latents[self.rows_of(chunk)] = values
        return latents

    def close(self) -> None:
        """Gives up the writer's lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _there(self) -> set[str]:
        """The files of the chunks there are: Zarr takes an absent one for zeros."""
        return self._place.keys(f"{self._array_folder}/c")

    def _read(self, chunk: int, there: set[str]) -> np.ndarray | None:
        assert self._array is not None
        if f"{chunk}/0/0" not in there:
            return None
        try:
            return np.asarray(self._array[self.rows_of(chunk)])
        except Exception:  # whatever Zarr makes of a damaged file
            return None

    def _open(self, create: bool) -> bool:
        if self._array is not None:
            return True
        array = self._place.zarr(self._array_folder)
        if self._place.read(f"{self._array_folder}/zarr.json") is None and not create:
            return False
        try:
            self._array = zarr.open_array(array, mode="r+", zarr_format=3)
            return True
        except Exception:  # absent, or its description is damaged: both mean a new start
            if not create:
                return False
        self._array = zarr.create_array(
            array,
            shape=self._shape,
            chunks=(self.chunk_rows, *self._shape[1:]),
            dtype=np.float16,
            compressors=[Crc32cCodec()],
            # A chunk that happens to be all zeros must still be written: absence means missing.
            config={"write_empty_chunks": True},
            overwrite=True,
        )
        return True
