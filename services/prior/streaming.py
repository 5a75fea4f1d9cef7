"""Training pairs of a latent table that does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.store import LatentStream
from ldcq.goals import Hindsight
from ldcq.learning.batches import epoch_indices, generator
from ldcq.prior import Batch, Statistics

BLOCK_ROWS = 1 << 13
"""Neighbouring windows read at once."""
BLOCKS_AT_ONCE = 16
"""Blocks, drawn at random, whose windows are shuffled together."""

COLUMNS = ("state", "latent_mean", "latent_std")


def episodes_of(stream: LatentStream) -> Iterator[NDArray[np.int64]]:
    """The column `episode`, piece by piece."""
    for start in range(0, len(stream), BLOCK_ROWS):
        yield stream.read("episode", start, start + BLOCK_ROWS)


class StreamedPairs:
    """Shuffled batches of training windows: random groups of blocks, shuffled within.

    Every window is visited once an epoch, as in memory, but windows of a batch come from a group
    only. A batch is a function of its step alone. At most two groups are held. Goals are drawn for
    every epoch.
    """

    def __init__(
        self,
        stream: LatentStream,
        batch_size: int,
        seed: int,
        device: torch.device,
        goals: Hindsight | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            stream: The table.
            batch_size: B.
            seed: The configuration's.
            device: Where batches go.
            goals: Chooses the goals of a prior with goals.

        Raises:
            ValueError: All windows are held out for validation.
        """
        self._stream, self._seed, self._device, self._goals = stream, seed, device, goals
        starts = np.arange(0, len(stream), BLOCK_ROWS)
        self._counts = np.add.reduceat((~stream.validation).astype(np.int64), starts)
        count = int(self._counts.sum())
        if not count:
            raise ValueError(f"latents {stream.version}: got no training window, expected one")
        self._batch_size = min(batch_size, count)
        self.steps_per_epoch = count // self._batch_size
        self._groups: dict[tuple[int, int], list[Tensor]] = {}

    def batch(self, step: int) -> Batch:
        """The pairs of step `step`, counted from 0, (B, ...)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_indices(len(self._counts), self._seed, epoch, "prior", "blocks").numpy()
        groups = [
            order[start : start + BLOCKS_AT_ONCE] for start in range(0, len(order), BLOCKS_AT_ONCE)
        ]
        first, end = position * self._batch_size, (position + 1) * self._batch_size
        parts: list[list[Tensor]] = []
        before = 0
        for number, blocks in enumerate(groups):
            after = before + int(self._counts[blocks].sum())
            if first < after and before < end:
                columns = self._group(epoch, number, blocks)
                rows = slice(max(first - before, 0), end - before)
                parts.append([column[rows] for column in columns])
            before = after
        return Batch(*(torch.cat(part).to(self._device) for part in zip(*parts, strict=True)))

    def statistics(self) -> Statistics:
        """As `training_statistics`, in one pass over the table."""
        sums = {name: np.zeros((2, self._stream.width(name))) for name in COLUMNS}
        for block in range(len(self._counts)):
            for name, values in zip(COLUMNS, self._block(block), strict=True):
                exact = values.astype(np.float64)
                sums[name] += np.stack([exact.sum(0), np.square(exact).sum(0)])
        total = self._counts.sum()
        state, mean, std = (sums[name] / total for name in COLUMNS)
        variance = mean[1] - np.square(mean[0]) + std[1]
        return Statistics(
            *(
                values.astype(np.float32)
                for values in (
                    state[0],
                    np.sqrt(np.maximum(state[1] - np.square(state[0]), 0)),
                    mean[0],
                    np.sqrt(variance),
                )
            )
        )

    def held_out(self, rows: NDArray[np.int64]) -> Batch:
        """Some windows, in order."""
        columns = [self._stream.take(name, rows) for name in COLUMNS]
        if self._goals is not None:
            columns.append(self._goals_of(self._goals, rows, "validation"))
        return Batch(*(torch.from_numpy(column).to(self._device) for column in columns))

    def _group(self, epoch: int, number: int, blocks: NDArray[np.int64]) -> list[Tensor]:
        key = (epoch, number)
        if key not in self._groups:
            while len(self._groups) > 1:
                del self._groups[next(iter(self._groups))]
            pieces = [self._block_with_goals(int(block), epoch) for block in blocks]
            columns = [np.concatenate(piece) for piece in zip(*pieces, strict=True)]
            source = generator(self._seed, "prior", "group", epoch, number)
            order = torch.randperm(len(columns[0]), generator=source)
            self._groups[key] = [torch.from_numpy(column)[order] for column in columns]
        return self._groups[key]

    def _block(self, block: int) -> list[NDArray[np.float32]]:
        """The training windows of a block, column by column."""
        start = block * BLOCK_ROWS
        kept = ~self._stream.validation[start : start + BLOCK_ROWS]
        end = start + BLOCK_ROWS
        return [self._stream.read(name, start, end)[kept] for name in COLUMNS]

    def _block_with_goals(self, block: int, epoch: int) -> list[NDArray[np.float32]]:
        """The same with a column of goals, where there are goals."""
        columns = self._block(block)
        if self._goals is not None:
            start = block * BLOCK_ROWS
            rows = start + np.flatnonzero(~self._stream.validation[start : start + BLOCK_ROWS])
            columns.append(self._goals_of(self._goals, rows, "block", epoch, block))
        return columns

    def _goals_of(
        self, goals: Hindsight, rows: NDArray[np.int64], *names: str | int
    ) -> NDArray[np.float32]:
        """Goals (B, G) of some windows."""
        ends = self._stream.take("next_state", goals.goal_rows(rows, *names))
        return np.ascontiguousarray(ends[:, goals.indices])
