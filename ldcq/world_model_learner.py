"""Trains the world model on windows: maximum likelihood of s_{t+H} (supplement B, Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config
from ldcq.critic.transitions import Transitions, moments
from ldcq.data.latents import LatentTable
from ldcq.learning.supervised import SupervisedLearner
from ldcq.nn.normaliser import Normaliser
from ldcq.world_model import KIND, WorldModel

_CONSTANT = 1e-6
"""A deviation below this share of the mean is rounding."""


class WorldModelLearner(SupervisedLearner):
    """Maximises log p(s_{t+H} | s_t, z) over z ~ q(z | tau).

    A window that truly ends does so at its last step: its s_{t+H} is the terminal state, which was
    seen, and is learned like any other. None ends earlier, so none has a next state made up.

    Attributes:
        model: What is trained.
    """

    def __init__(self, config: Config, table: LatentTable, windows: Transitions) -> None:
        """Initialises the network from torch's global random state.

        Args:
            config: The variant's configuration.
            table: Says which windows are held out.
            windows: All of the table's, which also say where to train.

        Raises:
            DataError: All windows are held out for validation.
        """
        training = table.training
        normalisers = _normalisers(windows, training)
        self.model = WorldModel(config.world_model, *normalisers).to(windows.device)
        super().__init__(
            KIND,
            self.model,
            config.world_model,
            seed=config.seed,
            training=training,
            held_out=table.held_out,
        )
        self._goal: Sequence[int] = list(config.data.goal_indices)
        self._windows = windows

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
        latent_dim = len(self.model.latent_normaliser.mean)
        noise = torch.randn(len(rows), latent_dim, generator=random)[share]
        block = self._windows.batch(rows[share])
        latents = block.latent_mean + block.latent_std * noise.to(self._windows.device)
        found = {"loss": -self.model.log_density(block.state, latents, block.next_state).mean()}
        with torch.no_grad():
            off = self.model.predict(block.state, latents) - block.next_state
            found["error"] = (off / self.model.change_normaliser.std).square().mean().sqrt()
            if self._goal:
                found["goal_error"] = off[:, self._goal].norm(dim=1).mean()
        return found


def _normalisers(windows: Transitions, training: NDArray[np.int64]) -> list[Normaliser]:
    """Of states, of latents z ~ q and of changes, over the training windows."""

    def values(block: Transitions) -> Tensor:
        return torch.cat([block.state, block.latent_mean, block.next_state - block.state], dim=1)

    def deviations(block: Transitions) -> Tensor:
        certain = torch.zeros_like(block.state)
        return torch.cat([certain, block.latent_std, certain], dim=1)

    mean, std = moments(windows, values, deviations, training)
    # What never changes carries nothing: dividing by almost nothing would blow up its rounding.
    std = torch.where(std > _CONSTANT * mean.abs().clamp_min(1.0), std, 1.0)
    first = windows.batch(slice(0, 1))
    sizes = [first.state.shape[1], first.latent_mean.shape[1], first.state.shape[1]]
    pairs = zip(mean.split_with_sizes(sizes), std.split_with_sizes(sizes), strict=True)
    return [Normaliser(*pair) for pair in pairs]
