"""Resumable training state on disk: whole or absent, the last k, and never mixed between specs."""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors

from common.store.files import replace_atomically
from common.store.meta import digest
from common.training.tree import flatten, restore

_LOGGER = logging.getLogger(__name__)
_FILE = re.compile(r"(\d+)\.safetensors")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or does not fit what it is loaded into."""


class Checkpoints:
    """The checkpoints of one stage with one spec; another spec has another folder."""

    def __init__(
        self, store_root: Path, stage: str, spec: Mapping[str, JsonValue], keep: int = 2
    ) -> None:
        """Opens the folder; nothing is created before the first `save`.

        Args:
            store_root: The store's folder.
            stage: A key of `STAGES`.
            spec: What decides the stage's result, from `stage_spec`.
            keep: How many of the last to keep.
        """
        self.folder = store_root / "checkpoints" / stage / digest(dict(spec))
        self._keep = keep

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Writes the state after `step` steps, then removes all but the last ones.

        Args:
            step: Optimiser steps done.
            state: As for `common.training.tree.flatten`.

        Raises:
            CheckpointError: The disk does not take it.
            TypeError: The state holds something that cannot be stored; the message says where.
        """
        tree, tensors = flatten(state)
        # Python's JSON keeps big integers, infinities and every bit of a float.
        metadata = {"state": json.dumps(tree), "crc32": str(_checksum(tensors))}
        path = self.folder / f"{step}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_atomically(path, save_tensors(tensors, metadata))
            for _, old in self._files()[self._keep :]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot save checkpoint {path}: {error}") from error

    def latest(self) -> tuple[int, dict[str, Any]] | None:
        """The last whole checkpoint: steps done and state, tensors on the CPU; None without one.

        A damaged or cut short one is reported, put aside, and the one before is used.
        """
        for step, path in self._files():
            try:
                return step, _read(path)
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                aside = path.with_suffix(".damaged")
                _LOGGER.warning(
                    "checkpoint %s is damaged or cut short (%s); moved to %s, using the one before",
                    path,
                    error,
                    aside.name,
                )
                path.replace(aside)
        return None

    def _files(self) -> list[tuple[int, Path]]:
        """Steps and files, the last first."""
        if not self.folder.is_dir():
            return []
        found = [
            (int(match[1]), path)
            for path in self.folder.iterdir()
            if (match := _FILE.fullmatch(path.name))
        ]
        return sorted(found, reverse=True)


def _read(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if int(metadata["crc32"]) != _checksum(tensors):
        raise ValueError("checksum does not match")
    state = restore(json.loads(metadata["state"]), tensors)
    if not isinstance(state, dict):
        raise ValueError("holds no state")
    return state


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    """CRC-32 of all bytes in the order of names; cheap beside writing them."""
    value = 0
    for name in sorted(tensors):
        flat = tensors[name].reshape(-1)
        value = zlib.crc32(flat.view(torch.uint8).numpy().data, value)
    return value
