"""What data says about sampled latents: whether they lie where it does, and where they lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.data import Layout
from ldcq.critic import diagnostics
from ldcq.critic.diagnostics import KEPT_WINDOWS
from ldcq.data.latents import LatentTable
from ldcq.learning.batches import evenly_spread

Array = NDArray[Any]

HELD_OUT = 2000
OUTSIDE = 0.99
"""Quantile of the distances of held-out data beyond which a sample is called out of support."""


class Support:
    """Nearest training windows of state-latent pairs.

    Args:
        table: The latents of all windows.
        seed: Of the latents z ~ q(z | tau) of held-out windows, which calibrate the distance.
    """

    def __init__(self, table: LatentTable, seed: int = 0) -> None:
        training = np.flatnonzero(~table.validation)
        self.windows = training[:: max(1, len(training) // KEPT_WINDOWS)]
        held_out = np.flatnonzero(table.validation)
        if not len(held_out):
            raise ValueError("no held-out windows, expected data.validation_fraction above 0")
        self.held_out = evenly_spread(held_out, HELD_OUT)
        random = np.random.default_rng(seed)

        def drawn(rows: Array) -> Array:
            noise = random.standard_normal(table.latent_mean[rows].shape)
            latents = table.latent_mean[rows] + table.latent_std[rows] * noise
            return np.asarray(latents, dtype=np.float32)

        def pairs(rows: Array) -> tuple[Tensor, Tensor]:
            return torch.from_numpy(table.state[rows]), torch.from_numpy(drawn(rows))

        self._pairs = diagnostics.Support(*pairs(self.windows), *pairs(self.held_out), OUTSIDE)

    def nearest(self, states: Array, latents: Array) -> tuple[Array, Array]:
        """Distance to the nearest training window and its row in the table, both (N, n), for raw
        states (N, S) and latents (N, n, Z).
        """
        distances, rows = self._pairs.nearest(torch.from_numpy(states), torch.from_numpy(latents))
        return distances.numpy(), self.windows[rows.numpy()]

    def outside(self, states: Array, latents: Array) -> Array:
        """Whether samples are farther from the training windows than 99 % of held-out data, (N, n).

        Takes what `nearest` takes.
        """
        return self._pairs.outside(torch.from_numpy(states), torch.from_numpy(latents)).numpy()


@dataclass(frozen=True)
class Junctions:
    """States of the data where a maze offers three ways or more."""

    states: Array  # raw, (N, S)
    rows: Array  # their windows' rows in the table, (N,)

    @classmethod
    def find(cls, table: LatentTable, layout: Layout, count: int) -> Junctions:
        """At most `count` held-out states, evenly from all that lie in the middle half of a
        junction; of all windows where none is held out.
        """
        position = table.state[:, list(layout.position_indices)]
        left, top = layout.origin
        offset = np.stack([position[:, 0] - left, top - position[:, 1]], axis=1) / layout.cell_size
        cell = np.floor(offset).astype(int)
        central = (np.abs(offset - cell - 0.5) < 0.25).all(axis=1)
        ways = np.array([_ways(layout.walls, row, column) for column, row in cell])
        at_junction = central & (ways >= 3)
        chosen = np.flatnonzero(at_junction & table.validation)
        rows = evenly_spread(chosen if len(chosen) else np.flatnonzero(at_junction), count)
        return cls(table.state[rows], rows)


def exit_shares(table: LatentTable, layout: Layout, starts: Array, rows: Array) -> Array:
    """Where latents lead: shares of the four directions, going by the nearest windows' own.

    Args:
        table: The latents of all windows.
        layout: Says where positions are.
        starts: States that latents are for, (N, S).
        rows: The nearest window of each latent, (N, n).

    Returns:
        Shares of east, north, west and south, (N, 4).
    """
    where = list(layout.position_indices)
    moved = table.next_state[rows][..., where] - starts[:, None, where]
    angle = np.arctan2(moved[..., 1], moved[..., 0])
    direction = np.round(angle / (np.pi / 2)).astype(int) % 4
    return np.stack([(direction == way).mean(axis=1) for way in range(4)], axis=1)


def _ways(walls: Array, row: int, column: int) -> int:
    rows, columns = walls.shape
    neighbours = ((row, column + 1), (row - 1, column), (row, column - 1), (row + 1, column))
    return sum(0 <= r < rows and 0 <= c < columns and not walls[r, c] for r, c in neighbours)
