"""Trains the world model on windows: maximum likelihood of s_{t+H} (supplement B, Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import Config
from common.nn.normaliser import Normaliser
from common.nn.world_model import KIND, WorldModel
from common.store import LatentTable, StoreError
from common.training.supervised import SupervisedLearner

Array = NDArray[np.float32]
_CONSTANT = 1e-6
"""A deviation below this share of the mean is rounding."""


class WorldModelLearner(SupervisedLearner):
    """Maximises log p(s_{t+H} | s_t, z) over z ~ q(z | tau).

    A window that truly ends does so at its last step: its s_{t+H} is the terminal state, which was
    seen, and is learned like any other. None ends earlier, so none has a next state made up.

    Attributes:
        model: What is trained.
    """

    def __init__(self, config: Config, table: LatentTable, device: torch.device) -> None:
        """Initialises the network from torch's global random state.

        Args:
            config: The variant's configuration.
            table: The latents of all windows.
            device: Where to train.

        Raises:
            StoreError: All windows are held out for validation.
        """
        training = np.flatnonzero(~table.validation)
        if not len(training):
            raise StoreError(
                f"latents {table.version} hold no training window, expected at least 1: lower "
                "data.validation_fraction or add episodes"
            )
        self.model = WorldModel(config.world_model, *_normalisers(table, training)).to(device)
        super().__init__(
            KIND,
            self.model,
            config.world_model,
            seed=config.seed,
            training=training,
            held_out=np.flatnonzero(table.validation),
        )
        self._goal: Sequence[int] = list(config.data.goal_indices)
        columns = (table.state, table.latent_mean, table.latent_std, table.next_state)
        self._columns = [torch.from_numpy(column).to(device) for column in columns]

    def metrics(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss, and how far predictions are off.

        Args:
            rows: Windows.
            share: Which of them to look at.
            random: Draws z.

        Returns:
            `loss`: -log p in nats per state dimension, of the standardised change; `error`: root
            mean square error of the mean, in deviations of the change; `goal_error` (for tasks with
            goals): mean Euclidean error of the entries that goals prescribe, in their own units.
        """
        # Drawn on the CPU and for all, so that the noise depends on no device and no share.
        noise = torch.randn(len(rows), self._columns[1].shape[1], generator=random)[share]
        chosen = torch.from_numpy(rows[share]).to(self._columns[0].device)
        state, mean, std, next_state = (column[chosen] for column in self._columns)
        latents = mean + std * noise.to(std.device)
        found = {"loss": -self.model.log_density(state, latents, next_state).mean()}
        with torch.no_grad():
            off = self.model.predict(state, latents) - next_state
            found["error"] = (off / self.model.change_normaliser.std).square().mean().sqrt()
            if self._goal:
                found["goal_error"] = off[:, self._goal].norm(dim=1).mean()
        return found


def _normalisers(
    table: LatentTable, training: NDArray[np.int64]
) -> tuple[Normaliser, Normaliser, Normaliser]:
    """Of states, of latents z ~ q and of changes, over the training windows."""
    state, mean = table.state[training], table.latent_mean[training]
    own = np.square(table.latent_std[training], dtype=np.float64).mean(axis=0)
    return (
        _normaliser(state),
        _normaliser(mean, own),
        _normaliser(table.next_state[training] - state),
    )


def _normaliser(values: Array, added_variance: float | NDArray[np.float64] = 0.0) -> Normaliser:
    mean = values.mean(axis=0, dtype=np.float64)
    std = np.sqrt(values.var(axis=0, dtype=np.float64) + added_variance)
    # What never changes carries nothing: dividing by almost nothing would blow up its rounding.
    std = np.where(std > _CONSTANT * np.maximum(np.abs(mean), 1.0), std, 1.0)
    return Normaliser(torch.from_numpy(mean), torch.from_numpy(std))
