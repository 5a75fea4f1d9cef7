"""The latent action value Q(s, z): two Q-networks and their input statistics (4.2, A.2.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldcq.config import ConfigError, CriticConfig
from ldcq.critic.fourier import FourierFeatures
from ldcq.critic.q_network import QNetwork
from ldcq.nn.model import Dimensions, Model
from ldcq.nn.normaliser import Normaliser

ROWS_AT_ONCE = {"cpu": 1024, "cuda": 262_144}
"""State-latent pairs evaluated at once over many candidates. On a CPU the activations then stay in
the cache, which halves the time of 64,000 pairs; on a GPU it only bounds the memory."""


class Critic(Model):
    """Two Q-networks for clipped double Q-learning, over raw states and latents.

    Normalisation is its own. The networks learn values of scaled rewards: `q_values` is in those
    units, `score` in units of discounted return.

    Attributes:
        state_normaliser: Statistics of the states, (S,).
        latent_normaliser: Statistics of the latents, (Z,).
        fourier: What the networks see of the state beside the state.
    """

    kind = "critic"
    Settings = CriticConfig
    config: CriticConfig

    def __init__(self, dimensions: Dimensions, config: CriticConfig) -> None:
        """Builds both networks.

        Args:
            dimensions: Of states and latents.
            config: The section `critic`.

        Raises:
            ConfigError: `fourier_indices` are entries that states do not have.
        """
        super().__init__(dimensions, config)
        states, latents = dimensions.state, dimensions.latent
        self.state_normaliser = Normaliser.identity(states)
        self.latent_normaliser = Normaliser.identity(latents)
        if any(index >= states for index in config.fourier_indices):
            raise ConfigError(
                f"critic.fourier_indices is {[*config.fourier_indices]}, expected entries of the "
                f"state, 0 to {states - 1}"
            )
        self.fourier = FourierFeatures(config.fourier_indices, config.fourier_octaves)
        self.networks = nn.ModuleList(
            QNetwork(states + self.fourier.width, latents, config.hidden) for _ in range(2)
        )

    def q_values(self, states: Tensor, latents: Tensor) -> Tensor:
        """Q_1 and Q_2 in units of scaled rewards.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, Z) or (N, n, Z).

        Returns:
            Values, (2, N) or (2, N, n).
        """
        states, latents = self.inputs(states, latents)
        # A loop: on a CPU it is about twice as fast over many candidates as one batched product
        # over both networks.
        return torch.stack([network(states, latents) for network in self.networks])

    def min_q(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate (clipped double Q), in units of scaled rewards.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        rows = ROWS_AT_ONCE.get(states.device.type, ROWS_AT_ONCE["cuda"])
        most = max(1, rows // max(1, latents.shape[1]))
        blocks = [slice(start, start + most) for start in range(0, len(states), most)]
        return torch.cat(
            [self.q_values(states[block], latents[block]).amin(dim=0) for block in blocks]
        )

    def score(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate (section 4.2), in units of discounted return.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        return self.min_q(states, latents) / self.config.reward_scale

    def inputs(self, states: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """What the networks see of raw states (N, S), once per state, and of raw latents."""
        seen = self.fourier.append_to(self.state_normaliser(states))
        return seen, self.latent_normaliser(latents)
