"""Random numbers and batches as functions of a seed and a step: no state to save or lose."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator of its own for everything that has a name of its own.

    Args:
        seed: The configuration's.
        names: What the numbers are for, and for which step; other names give independent numbers.
    """
    key = "\0".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    return torch.Generator().manual_seed(number % (1 << 63))


def epoch_indices(count: int, seed: int, epoch: int, *names: str | int) -> Tensor:
    """The order in which an epoch visits `count` items, (count,) int64."""
    return torch.randperm(count, generator=generator(seed, "epoch", epoch, *names))


def on_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array, (N, ...), as a tensor on a device; a mapped one stays where it is, larger than
    memory.
    """
    tensor = torch.from_numpy(values)
    return tensor if isinstance(values, np.memmap) else tensor.to(device)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; onto a GPU it goes without waiting for what that has been given."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def take(column: Tensor, rows: NDArray[np.int64] | slice, device: torch.device) -> Tensor:
    """Some rows, (M,), of what `on_device` made, (N, ...): (M, ...) on the device."""
    chosen = rows if isinstance(rows, slice) else moved(torch.from_numpy(rows), column.device)
    return moved(column[chosen], device)


def evenly_spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the rows, (N,), evenly spread; in their order."""
    if len(rows) <= count:
        return rows
    chosen: NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    return chosen


class BatchSampler:
    """Shuffled batches without replacement, each a function of its step alone.

    The last, incomplete batch of an epoch is dropped; with fewer items than a batch, all items are
    one batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, *names: str | int) -> None:
        """Draws nothing yet.

        Args:
            count: Items to draw from.
            batch_size: B.
            seed: The configuration's.
            names: What the batches are for.

        Raises:
            ValueError: There are no items, or the batch size is less than 1.
        """
        if count < 1:
            raise ValueError(f"count: got {count}, expected at least 1 item to draw from")
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
        self.count, self.batch_size = count, min(batch_size, count)
        self.steps_per_epoch = count // self.batch_size
        self._seed, self._names = seed, names
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, step: int) -> Tensor:
        """The items of step `step`, counted from 0; (B,) int64."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = epoch_indices(self.count, self._seed, epoch, *self._names)
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]
