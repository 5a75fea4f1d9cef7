"""Reads the latents of all windows, whole or as a stream; checksums are verified on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from common.store.artifacts import Store
from common.store.errors import CorruptArtifactError, LineageError, MissingArtifactError, StoreError
from common.store.meta import Meta, read_meta
from common.store.place import Place


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

    def __len__(self) -> int:
        return len(self.validation)

    def width(self, column: str) -> int:
        """Entries of a row of a column."""
        return int(np.prod(getattr(self, column).shape[1:], dtype=np.int64))

    def read(self, column: str, start: int, end: int) -> np.ndarray:
        """Rows `start` to `end` of a column."""
        rows: np.ndarray = getattr(self, column)[start:end]
        return rows


_COLUMNS = [field.name for field in fields(LatentTable) if field.name not in ("version", "meta")]


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
                f"no latents in {store.where('latents')}; made by `ldcq train vae`"
            )
    place, folder = store.place, store.key("latents", version)
    meta = _meta_of(place, folder, vae_version)
    return LatentTable(version=version, meta=meta, **_read_columns(place, folder, _COLUMNS))


@dataclass(frozen=True)
class LatentStream:
    """A latent table that stays in the store.

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

    def take(self, column: str, rows: npt.NDArray[np.int64]) -> np.ndarray:
        """Some rows of a column, in any order, of which no others are held."""
        return np.asarray(self._columns[column].oindex[rows])


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
    place, folder = store.place, store.key("latents", version)
    meta = _meta_of(place, folder, vae_version)
    columns: dict[str, zarr.Array[Any]] = {}
    with _opened(place, folder) as group:
        for name in _COLUMNS:
            array = columns[name] = _column(group, name)
            count = int(array.shape[0])
            rows = max(1, most * count // max(1, array.nbytes))
            pieces = (array[start : start + rows] for start in range(0, count, rows))
            _verify(place, folder, group, name, pieces)
        validation = np.asarray(columns["validation"][:])
    return LatentStream(version, meta, validation, columns)


def latents_size(store: Store, version: str) -> int:
    """Bytes a latent table takes in memory.

    Raises:
        CorruptArtifactError: It cannot be read.
    """
    place, folder = store.place, store.key("latents", version)
    with _opened(place, folder) as group:
        return sum(_column(group, name).nbytes for name in _checksums(group))


def _meta_of(place: Place, folder: str, vae_version: str | None) -> Meta:
    meta = read_meta(place, folder)
    made_by = meta.parents.get("vae")
    if vae_version is not None and made_by != vae_version:
        raise LineageError(
            f"latents {_version(folder)} were made by VAE {made_by}, expected VAE {vae_version}"
        )
    return meta


def _version(folder: str) -> str:
    return folder.rpartition("/")[2]


def _advice(place: Place, folder: str) -> str:
    return f"delete the folder {place.where(folder)} and start the vae stage again"


@contextmanager
def _opened(place: Place, folder: str) -> Iterator[zarr.Group]:
    """The table in `folder`; whatever fails while it is read is explained."""
    try:
        yield zarr.open_group(place.zarr(folder), mode="r", zarr_format=3)
    except StoreError:
        raise
    except Exception as error:  # whatever Zarr makes of a damaged file
        raise CorruptArtifactError(
            f"latents {_version(folder)}: cannot read {place.where(folder)} ({error}); "
            f"{_advice(place, folder)}"
        ) from error


def _checksums(group: zarr.Group) -> dict[str, str]:
    checksums: Any = group.attrs["sha256"]
    return dict(checksums)


def _column(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def _verify(place: Place, folder: str, group: zarr.Group, name: str, pieces: Iterable[Any]) -> None:
    # Zarr fills what is missing with zeros without a word, hence a checksum of our own.
    found = hashlib.sha256()
    for piece in pieces:
        found.update(np.ascontiguousarray(piece).data)
    if found.hexdigest() != _checksums(group)[name]:
        raise CorruptArtifactError(
            f"latents {_version(folder)}: column {name} is damaged or cut short; "
            f"{_advice(place, folder)}"
        )


def _read_columns(
    place: Place, folder: str, names: list[str] | None = None
) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    with _opened(place, folder) as group:
        for name in names if names is not None else _checksums(group):
            columns[name] = np.ascontiguousarray(_column(group, name)[:])
            _verify(place, folder, group, name, [columns[name]])
    return columns


def is_whole(place: Place, folder: str) -> bool:
    """Whether the table in `folder` can be read and every column has its checksum."""
    try:
        read_meta(place, folder)
        _read_columns(place, folder)
    except StoreError:
        return False
    return True
