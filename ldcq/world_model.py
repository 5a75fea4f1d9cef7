"""The world model p(s_{t+H} | s_t, z), and its training (supplement B, Eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ldcq.config import Config, WorldModelConfig
from ldcq.critic.transitions import Transitions, moments
from ldcq.data.latents import LatentTable
from ldcq.learning.batches import generator
from ldcq.learning.supervised import SupervisedLearner
from ldcq.nn.distributions import Gaussian, log_density
from ldcq.nn.mlp import mlp
from ldcq.nn.model import Dimensions, Model
from ldcq.nn.normaliser import Normaliser
from ldcq.support import StateSupport

_CONSTANT = 1e-6
"""A deviation below this share of the mean is rounding."""


class WorldModel(Model):
    """A diagonal Gaussian over the standardised change s_{t+H} - s_t.

    Changes are what H steps decide; of the state itself the network would have to copy most.

    Args:
        dimensions: Of states and latents.
        config: The section `world_model`.

    Attributes:
        state_normaliser: Of raw states (S,).
        latent_normaliser: Of raw latents (Z,).
        change_normaliser: Of raw changes (S,).
        support: The data's states s_{t+H}, standardised by `state_normaliser`.
    """

    kind = "world_model"
    Settings = WorldModelConfig
    config: WorldModelConfig

    def __init__(self, dimensions: Dimensions, config: WorldModelConfig) -> None:
        super().__init__(dimensions, config)
        states, latents = dimensions.state, dimensions.latent
        self.state_normaliser = Normaliser.identity(states)
        self.latent_normaliser = Normaliser.identity(latents)
        self.change_normaliser = Normaliser.identity(states)
        self.support = StateSupport.unknown(config.reference_states, states)
        sizes = [states + latents, *config.hidden, 2 * states]
        self.network = mlp(sizes, nn.GELU, layer_norm=True)

    def forward(self, states: Tensor, latents: Tensor) -> Gaussian:
        """The standardised change.

        Args:
            states: Raw s_t, shape (..., S).
            latents: Raw z, shape (..., Z).

        Returns:
            Mean and deviation, each (..., S).
        """
        known = [self.state_normaliser(states), self.latent_normaliser(latents)]
        mean, raw_std = self.network(torch.cat(known, dim=-1)).chunk(2, dim=-1)
        return Gaussian(mean, functional.softplus(raw_std) + self.config.min_std)

    def log_density(self, states: Tensor, latents: Tensor, next_states: Tensor) -> Tensor:
        """Log density of the standardised change, in nats per dimension, shape (..., S).

        Args:
            states: Raw s_t, shape (..., S).
            latents: Raw z, shape (..., Z).
            next_states: Raw s_{t+H}, shape (..., S).
        """
        return log_density(self.change_normaliser(next_states - states), self(states, latents))

    def predict(self, states: Tensor, latents: Tensor) -> Tensor:
        """The mean of p(s_{t+H} | s_t, z), raw, shape (..., S); arguments as of `forward`."""
        return states + self.change_normaliser.inverse(self(states, latents).mean)

    def distance(self, states: Tensor, latents: Tensor) -> Tensor:
        """How far from the data latents lead, see `StateSupport.distance`; arguments as of
        `forward`, shape (...).
        """
        return self.support.distance(self.state_normaliser(self.predict(states, latents)))


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
        first = windows.batch(slice(0, 1))
        dimensions = Dimensions(state=first.state.shape[1], latent=first.latent_mean.shape[1])
        kept = max(min(config.world_model.reference_states, len(training) // 2), 1)
        settings = config.world_model.model_copy(update={"reference_states": kept})
        self.model = WorldModel(dimensions, settings)
        _fit_normalisers(self.model, windows, training)
        _fit_support(self.model, windows, training, generator(config.seed, WorldModel.kind, "data"))
        super().__init__(
            WorldModel.kind,
            self.model.to(windows.device),
            settings,
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
        latent_dim = self.model.dimensions.latent
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


def _fit_normalisers(model: WorldModel, windows: Transitions, training: NDArray[np.int64]) -> None:
    """Sets them to the training windows' states, latents z ~ q and changes."""

    def values(block: Transitions) -> Tensor:
        return torch.cat([block.state, block.latent_mean, block.next_state - block.state], dim=1)

    def deviations(block: Transitions) -> Tensor:
        certain = torch.zeros_like(block.state)
        return torch.cat([certain, block.latent_std, certain], dim=1)

    mean, std = moments(windows, values, deviations, training)
    # What never changes carries nothing: dividing by almost nothing would blow up its rounding.
    std = torch.where(std > _CONSTANT * mean.abs().clamp_min(1.0), std, 1.0)
    size = model.dimensions
    sizes = [size.state, size.latent, size.state]
    pairs = zip(mean.split_with_sizes(sizes), std.split_with_sizes(sizes), strict=True)
    model.state_normaliser, model.latent_normaliser, model.change_normaliser = (
        Normaliser(*pair) for pair in pairs
    )


def _fit_support(
    model: WorldModel, windows: Transitions, training: NDArray[np.int64], random: torch.Generator
) -> None:
    """Sets it to s_{t+H} of some training windows; those of others have the own distances."""
    count = len(model.support.known)
    rows = training[torch.randperm(len(training), generator=random).numpy()]
    known, others = (
        model.state_normaliser(torch.from_numpy(windows.next_states(part)))
        for part in (rows[:count], rows[-count:])
    )
    model.support = StateSupport.of(known, others)
