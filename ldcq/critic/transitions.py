"""The windows a critic or a world model learns from: rows of the latent table, and their arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.store import LatentStream, LatentTable, RowFile, StoreError, fits_in_memory
from ldcq.learning.batches import generator
from ldcq.nn.normaliser import Normaliser

BLOCK_BYTES = 1 << 21
"""Of windows that are looked at together where all are."""

Rows = NDArray[np.int64] | slice
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transitions:
    """Transition tuples (s_t, q(z | tau), r_{t:t+H}, s_{t+H}) of Algorithm 1, in raw units.

    Attributes:
        state: s_t, (M, S).
        latent_mean: Mean of q(z | tau), (M, Z).
        latent_std: Standard deviation of q(z | tau), (M, Z).
        reward: Discounted sum over the window, (M,).
        discount: gamma^H, or 0 after a true termination, (M,).
        next_state: s_{t+H}, (M, S).
    """

    state: Tensor
    latent_mean: Tensor
    latent_std: Tensor
    reward: Tensor
    discount: Tensor
    next_state: Tensor

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.state.device

    @classmethod
    def of(
        cls, table: LatentTable | LatentStream, rows: NDArray[np.int64], device: torch.device
    ) -> Transitions:
        """Copies some rows of a latent table, in ascending order."""
        whole = np.empty((len(rows), sum(_widths(table))), np.float32)
        filled = 0
        for record in _records(table, rows):
            whole[filled : filled + len(record)] = record
            filled += len(record)
        return _parted(torch.from_numpy(whole), _widths(table), device)

    def batch(self, rows: Rows) -> Transitions:
        """Some windows, (B, ...) each."""
        chosen = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.device)
        return Transitions(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def next_states(self, rows: Rows) -> NDArray[np.float32]:
        """s_{t+H} of some windows, (B, S)."""
        return self.batch(rows).next_state.cpu().numpy()

    def draw_latents(self, source: torch.Generator) -> Tensor:
        """Draws z ~ q(z | tau) of every window, (M, Z) (Algorithm 1, line 4)."""
        # Drawn on the CPU, so that the noise does not depend on the device.
        noise = torch.randn(self.latent_mean.shape, generator=source)
        return self.latent_mean + self.latent_std * noise.to(self.latent_mean.device)


class StoredTransitions:
    """Transitions that do not fit into memory: a file of them, read where they are asked for.

    Attributes:
        device: Where batches go.
    """

    def __init__(
        self, table: LatentStream, rows: NDArray[np.int64], folder: Path, device: torch.device
    ) -> None:
        """Copies some rows of a latent table, in ascending order, all columns of a row together.

        Args:
            table: All windows.
            rows: Which.
            folder: Where there is room for them.
            device: Where batches go.

        Raises:
            StoreError: There is none.
        """
        self.device, self._widths = device, _widths(table)
        self._file = RowFile(folder, np.float32, (sum(self._widths),))
        for record in _records(table, rows):
            self._file.append(record)

    def __len__(self) -> int:
        return len(self._file)

    def batch(self, rows: Rows) -> Transitions:
        """Some windows, (B, ...) each."""
        return _parted(torch.from_numpy(self._file[rows]), self._widths, self.device)

    def next_states(self, rows: Rows) -> NDArray[np.float32]:
        """s_{t+H} of some windows, (B, S)."""
        states: NDArray[np.float32] = self._file[rows][:, -self._widths[-1] :]
        return states


def hold_transitions(
    table: LatentStream,
    rows: NDArray[np.int64],
    folder: Path,
    memory: int | None,
    device: torch.device,
) -> Transitions | StoredTransitions:
    """Some rows of a latent table: in memory, or on disk where they do not fit.

    Args:
        table: All windows.
        rows: Which, ascending.
        folder: Where there is room on disk.
        memory: MiB that they may take in memory (`training.memory`).
        device: Where batches go.

    Raises:
        StoreError: The disk does not take them.
    """
    size = 4 * len(rows) * sum(_widths(table))
    if fits_in_memory(size, memory):
        return Transitions.of(table, rows, device)
    _LOGGER.info("%d windows, %d MiB, read as needed from disk", len(rows), size >> 20)
    return StoredTransitions(table, rows, folder, device)


def normalisers(transitions: Transitions | StoredTransitions) -> tuple[Normaliser, Normaliser]:
    """Of the windows' states, and of the mixture of their posteriors, which latents are drawn from.

    One block after the other, so that they are the same, bit for bit, from memory and from disk.
    """
    split = transitions.batch(slice(0, 1)).state.shape[1]
    mean, std = moments(
        transitions,
        lambda block: torch.cat([block.state, block.latent_mean], dim=1),
        lambda block: torch.cat([torch.zeros_like(block.state), block.latent_std], dim=1),
    )
    return (
        Normaliser(mean[:split], std[:split]),
        Normaliser(mean[split:], std[split:]),
    )


def moments(
    transitions: Transitions | StoredTransitions,
    values: Callable[[Transitions], Tensor],
    deviations: Callable[[Transitions], Tensor],
    rows: NDArray[np.int64] | None = None,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over windows, looked at one block after the other.

    Args:
        transitions: Windows, at least one.
        values: What of a block, (B, D).
        deviations: Each value is the mean of a distribution with this standard deviation, (B, D).
        rows: Which windows; None: all.

    Returns:
        Mean and standard deviation, on the CPU in double precision, (D,) each.
    """
    width = values(transitions.batch(slice(0, 1))).shape[1]
    count, step = len(transitions if rows is None else rows), _block_rows(2 * width)

    def mean_of(function: Callable[[Transitions], Tensor]) -> Tensor:
        # Summed up in place: small results kept between large ones would fragment the heap.
        total = torch.zeros(width, dtype=torch.float64, device=transitions.device)
        for start in range(0, count, step):
            block = slice(start, start + step)
            total += function(transitions.batch(block if rows is None else rows[block])).sum(0)
        return total / count

    mean = mean_of(lambda block: values(block).double())
    variance = mean_of(
        lambda block: (values(block).double() - mean).square() + deviations(block).double().square()
    )
    return mean.cpu(), variance.sqrt().cpu()


def _block_rows(width: int) -> int:
    return max(BLOCK_BYTES // (4 * width), 1)


def _widths(table: LatentTable | LatentStream) -> list[int]:
    return [table.width(field.name) for field in fields(Transitions)]


def _records(
    table: LatentTable | LatentStream, rows: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    """Ascending rows of a table with all columns side by side, block by block."""
    count = _block_rows(sum(_widths(table)))
    starts = np.unique(rows // count) * count
    bounds = np.searchsorted(rows, [*starts, len(table)])
    for start, first, end in zip(starts.tolist(), bounds[:-1], bounds[1:], strict=True):
        inside = rows[first:end] - start
        columns = (table.read(f.name, start, start + count) for f in fields(Transitions))
        yield np.concatenate([c[inside].reshape(len(inside), -1) for c in columns], axis=1)


def _parted(records: Tensor, widths: list[int], device: torch.device) -> Transitions:
    state, mean, std, reward, discount, following = records.to(device).split(widths, dim=1)  # type: ignore[no-untyped-call]
    columns = (state, mean, std, reward[:, 0], discount[:, 0], following)
    return Transitions(*(column.contiguous() for column in columns))


def training_rows(
    table: LatentTable | LatentStream, limit: int | None, seed: int, reward_share: float = 0.0
) -> NDArray[np.int64]:
    """Rows that enter the replay: the training windows, or `limit` of them drawn at random.

    Args:
        table: All windows, M.
        limit: Most rows to take; None: all.
        seed: Fixes the draw.
        reward_share: Share of `limit` drawn from the windows with a reward in them (all of those,
            where they are fewer); the rest come from the others.

    Returns:
        Rows of the table, ascending, (at most `limit`,) int64.

    Raises:
        StoreError: The table has no training windows.
    """
    rows = np.flatnonzero(~table.validation)
    if not len(rows):
        raise StoreError(
            f"latents {table.version} hold {len(table.validation)} windows, none of them for "
            "training; expected at least 1: lower data.validation_fraction or add episodes"
        )
    if limit is None or not reward_share:
        return _drawn(rows, limit, seed, "training")
    rewarded = table.read("reward", 0, len(table))[rows] != 0
    near = _drawn(rows[rewarded], round(reward_share * limit), seed, "rewarded")
    rest = _drawn(rows[~rewarded], limit - len(near), seed, "training")
    return np.sort(np.concatenate([near, rest]))


def validation_rows(table: LatentTable | LatentStream, limit: int, seed: int) -> NDArray[np.int64]:
    """Rows of the fixed validation batch: at most `limit`, none where nothing was kept apart."""
    return _drawn(np.flatnonzero(table.validation), limit, seed, "validation")


def _drawn(
    rows: NDArray[np.int64], limit: int | None, seed: int, purpose: str
) -> NDArray[np.int64]:
    if limit is None or limit >= len(rows):
        return rows
    order = torch.randperm(len(rows), generator=generator(seed, "critic", "windows", purpose))
    return np.sort(rows[order[:limit].numpy()])
