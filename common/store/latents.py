"""Reads the latents of all windows; checksums are verified on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import zarr

from common.store.artifacts import Store
from common.store.errors import CorruptArtifactError, LineageError, MissingArtifactError, StoreError
from common.store.meta import read_meta
from common.store.place import Place
from common.store.rows import Room
from ldcq.data.latents import LatentTable

CHUNKS_AT_ONCE = 4
"""Of a column: a chunk is about 1 MiB."""
_REQUIRED = {field.name: field.default is MISSING for field in fields(LatentTable)}
"""Whether every table has it, by column."""


def open_latents(
    store: Store,
    version: str | None = None,
    *,
    vae_version: str | None = None,
    memory: int | None = None,
) -> LatentTable:
    """Reads a latent table piece by piece and verifies every column against its checksum.

    Args:
        store: Where. Columns that do not fit into memory are copied to its disk and mapped.
        version: Which; None: the current one of the main pipeline.
        vae_version: The VAE that must have made them; None: any.
        memory: MiB that they may take in memory (`training.memory`).

    Raises:
        MissingArtifactError: There are none (yet).
        CorruptArtifactError: A column is missing, damaged or cut short.
        LineageError: Another VAE made them.
        StoreError: The disk does not take them.
    """
    if version is None:
        version = store.current("latents")
        if version is None:
            raise MissingArtifactError(
                f"no latents in {store.where('latents')}; made by `ldcq train vae`"
            )
    place, folder = store.place, store.key("latents", version)
    made_by = read_meta(place, folder).parents.get("vae")
    if vae_version is not None and made_by != vae_version:
        raise LineageError(
            f"latents {version} were made by VAE {made_by}, expected VAE {vae_version}"
        )
    room, columns = Room(store.root, memory), {}
    with _opened(place, folder) as group:
        checksums = _checksums(group)
        for name in (name for name, always in _REQUIRED.items() if always or name in checksums):
            array = _column(group, name)
            columns[name] = room(array.shape, array.dtype)
            for rows, piece in _verified(place, folder, group, name):
                columns[name][rows] = piece
    return LatentTable(**columns)


def is_whole(place: Place, folder: str) -> bool:
    """Whether the table in `folder` can be read and every column has its checksum."""
    try:
        read_meta(place, folder)
        with _opened(place, folder) as group:
            for name in _checksums(group):
                for _ in _verified(place, folder, group, name):
                    pass
    except StoreError:
        return False
    return True


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


def _verified(
    place: Place, folder: str, group: zarr.Group, name: str
) -> Iterator[tuple[slice, np.ndarray]]:
    """A column from front to back, a few chunks at a time; the checksum is compared at the end."""
    # Zarr fills what is missing with zeros without a word, hence a checksum of our own.
    array, found = _column(group, name), hashlib.sha256()
    step = CHUNKS_AT_ONCE * array.chunks[0]
    for start in range(0, array.shape[0], step):
        rows = slice(start, start + step)
        piece = np.ascontiguousarray(array[rows])
        found.update(piece.data)
        yield rows, piece
    if found.hexdigest() != _checksums(group)[name]:
        raise CorruptArtifactError(
            f"latents {_version(folder)}: column {name} is damaged or cut short; "
            f"{_advice(place, folder)}"
        )
