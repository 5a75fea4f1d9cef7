"""Resumable training state on disk: whole or absent, the last k, and never mixed between specs."""

from __future__ import annotations

import io
import logging
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue

from common.store.files import refusal, replace_atomically
from common.store.meta import digest

_LOGGER = logging.getLogger(__name__)
_FILE = re.compile(r"(\d+)\.pt")
_CHECKSUM_BYTES = 4
_NUMPY: list[Any] = [
    *(np.ndarray, np.dtype, bytes, np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]),
    *(type(np.dtype(code)) for code in "?bhilqBHILQefdFD"),
]
"""What an array of numbers is made of; `torch.load` knows tensors and Python's own types."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or does not fit what it is loaded into."""


class Checkpoints:
    """The checkpoints of one stage with one spec; another spec has another folder."""

    def __init__(
        self, store_root: Path, stage: str, spec: Mapping[str, JsonValue], keep: int = 2
    ) -> None:
        """Opens the folder of a stage's `stage_spec`; nothing is created before the first `save`,
        which removes all but the last `keep`.
        """
        self.folder = store_root / "checkpoints" / stage / digest(dict(spec))
        self._keep = keep

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes the state after `step` optimiser steps: tensors, NumPy arrays and scalars,
        numbers, str and None, in dictionaries, lists, tuples and sets.

        Raises:
            CheckpointError: The disk does not take it.
            TypeError: The state holds something else; the message says what.
        """
        file = io.BytesIO()
        torch.save(dict(state), file)
        try:
            _loaded(file)  # now, and not when hours of training depend on it
        except UnpicklingError as error:
            reason = str(error).partition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
            raise TypeError(
                f"checkpoint of step {step}: {reason or error}; expected tensors, arrays, numbers, "
                "str and None"
            ) from error
        file.write(_checksum(file.getbuffer()))
        path = self.folder / f"{step}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_atomically(path, file.getvalue())
            for _, old in self._files()[self._keep :]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot save checkpoint {path}: {refusal(error)}") from error

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The last whole checkpoint: steps done and state, tensors on the CPU; None without one.

        A damaged or cut short one is reported, put aside, and the one before is used.
        """
        for step, path in self._files():
            try:
                return step, _read(path)
            except (OSError, ValueError, UnpicklingError) as error:
                aside = path.with_suffix(".damaged")
                _LOGGER.warning(
                    "checkpoint %s is damaged or cut short (%s); moved to %s, using the one before",
                    *(path, error, aside.name),
                )
                path.replace(aside)
        return None

    def _files(self) -> list[tuple[int, Path]]:
        """Steps and files, the last first."""
        if not self.folder.is_dir():
            return []
        names = ((_FILE.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(((int(name[1]), path) for name, path in names if name), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    content, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    # PyTorch's reader leaves the checksums of its own file format unread.
    if _checksum(content) != checksum:
        raise ValueError("checksum does not match")
    return _loaded(io.BytesIO(content))


def _loaded(file: io.BytesIO) -> dict[str, Any]:
    """What `torch.save` wrote; nothing but data is made of it, and no code is run."""
    file.seek(0)
    with torch.serialization.safe_globals(_NUMPY):
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    file.seek(0, io.SEEK_END)
    return state


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES)
