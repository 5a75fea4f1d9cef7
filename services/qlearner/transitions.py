"""The windows a critic learns from: which rows of the latent table, and their arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.store import LatentTable, StoreError
from common.training import generator


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

    @classmethod
    def of(cls, table: LatentTable, rows: NDArray[np.int64], device: torch.device) -> Transitions:
        """Copies some rows of a latent table, in the given order."""

        def column(values: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(values[rows]).to(device)

        return cls(
            column(table.state),
            column(table.latent_mean),
            column(table.latent_std),
            column(table.reward),
            column(table.discount),
            column(table.next_state),
        )

    def batch(self, indices: Tensor) -> Transitions:
        """Some windows, (B, ...) each."""
        return Transitions(
            self.state[indices],
            self.latent_mean[indices],
            self.latent_std[indices],
            self.reward[indices],
            self.discount[indices],
            self.next_state[indices],
        )

    def draw_latents(self, source: torch.Generator) -> Tensor:
        """Draws z ~ q(z | tau) of every window, (M, Z) (Algorithm 1, line 4)."""
        # Drawn on the CPU, so that the noise does not depend on the device.
        noise = torch.randn(self.latent_mean.shape, generator=source)
        return self.latent_mean + self.latent_std * noise.to(self.latent_mean.device)


def training_rows(table: LatentTable, limit: int | None, seed: int) -> NDArray[np.int64]:
    """Rows that enter the replay: the training windows, or `limit` of them drawn at random.

    Args:
        table: All windows, M.
        limit: Most rows to take; None: all.
        seed: Fixes the draw.

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
    return _drawn(rows, limit, seed, "training")


def validation_rows(table: LatentTable, limit: int, seed: int) -> NDArray[np.int64]:
    """Rows of the fixed validation batch: at most `limit`, none where nothing was kept apart."""
    return _drawn(np.flatnonzero(table.validation), limit, seed, "validation")


def _drawn(
    rows: NDArray[np.int64], limit: int | None, seed: int, purpose: str
) -> NDArray[np.int64]:
    if limit is None or limit >= len(rows):
        return rows
    order = torch.randperm(len(rows), generator=generator(seed, "critic", "windows", purpose))
    return np.sort(rows[order[:limit].numpy()])
