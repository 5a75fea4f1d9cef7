"""NumPy archives (.npz) of anyone's, read without running anything of theirs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ldcq.data.episodes import DataError

DAMAGED = (
    *(OSError, EOFError, BadZipFile, zlib.error, NotImplementedError),
    *(ValueError, TypeError, AttributeError, KeyError),
)
"""What NumPy raises for a file that is empty, cut, damaged, pickled, or no archive."""


def read_archive(
    file: Path, wanted: Iterable[str] | None = None, said: str = ""
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an archive.

    Args:
        file: Its path.
        wanted: Their names; None: all there are. Those that are not there are left out.
        said: How a message begins: the key of the configuration that names the file.

    Returns:
        By name, of any shape and type but objects.

    Raises:
        DataError: It is no such archive.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            names = archive.files if wanted is None else [n for n in wanted if n in archive]
            return {name: archive[name] for name in names}
    except DAMAGED as error:
        why = str(error) or type(error).__name__
        raise DataError(f"{said}{file}: not a NumPy archive (.npz) of arrays ({why})") from error
