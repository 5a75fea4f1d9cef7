"""The low-level policy as it is executed, over raw states (section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from ldcq.data.statistics import action_range, state_statistics
from ldcq.data.windows import Windows
from ldcq.nn.model import Dimensions, Model
from ldcq.nn.normaliser import Normaliser
from ldcq.vae.decoder import Decoder

ROWS_AT_ONCE = 4096
"""Actions decoded at once, so that memory does not grow with their number."""


class LowLevelPolicy(Model):
    """pi(a | s, z): a decoder, and the statistics of the states that it was trained on.

    Attributes:
        state_normaliser: Raw to standardised states.
        decoder: The network.
    """

    dimensions: Dimensions
    state_normaliser: Normaliser
    decoder: Decoder

    def fit_to(self, windows: Windows) -> None:
        """Takes over the statistics of the training states and the range of actions.

        Args:
            windows: What is trained on.
        """
        statistics, (low, high) = state_statistics(windows), action_range(windows.episodes)
        self.state_normaliser = Normaliser(
            torch.from_numpy(statistics.state_mean), torch.from_numpy(statistics.state_std)
        )
        self.decoder.bound(low.tolist(), high.tolist())

    @torch.no_grad()
    def act(
        self, states: Tensor, latents: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Actions inside the action space.

        Args:
            states: Raw, shape (E, S).
            latents: Shape (E, Z).
            generator: Draws from the policy; None takes its mode.

        Returns:
            Shape (E, A), float32; indices (E, 1), int64, where actions are discrete.
        """
        blocks = zip(
            torch.split(states, ROWS_AT_ONCE), torch.split(latents, ROWS_AT_ONCE), strict=True
        )
        return torch.cat(
            [self.decoder.act(self.state_normaliser(s), z, generator) for s, z in blocks]
        )


def policy_dimensions(windows: Windows, latent_dim: int) -> Dimensions:
    """Of a policy over the states and actions of these windows, and latents (Z,)."""
    spaces = windows.episodes.spaces
    return Dimensions(
        state=spaces.state_dim,
        action=spaces.action_dim,
        latent=latent_dim,
        horizon=windows.horizon,
        discrete_actions=spaces.discrete_actions,
    )
