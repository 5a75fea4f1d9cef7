"""The latent action value Q(s, z): two Q-networks and their input statistics (4.2, A.2.3)."""

from __future__ import annotations

from typing import cast

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

FIRST_LOOK = 2
"""Candidates of a state, the best by the first network, that set the bound of `best_value`."""


def clipped_double_q(values: Tensor) -> Tensor:
    """The smaller of both critics, min_j Q_j (Fujimoto et al. 2018; Algorithm 1 line 10).

    Args:
        values: Of both critics, (2, ...).

    Returns:
        Values, (...).
    """
    return values.amin(dim=0)


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
        states = self._inputs(states)
        latents = self.latent_normaliser(latents)
        # A loop: on a CPU it is about twice as fast over many candidates as one batched product
        # over both networks.
        return torch.stack([network(states, latents) for network in self.networks])

    def smaller_q(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate, in units of scaled rewards.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        rows = ROWS_AT_ONCE.get(states.device.type, ROWS_AT_ONCE["cuda"])
        most = max(1, rows // max(1, latents.shape[1]))
        parts = [
            clipped_double_q(
                self.q_values(states[start : start + most], latents[start : start + most])
            )
            for start in range(0, len(states), most)
        ]
        return torch.cat(parts)

    def best_value(self, states: Tensor, latents: Tensor) -> Tensor:
        """max_z min_j Q_j(s, z) over each state's candidates (Eq. 8), in units of scaled rewards.

        A candidate whose Q_1 is below some candidate's min_j Q_j cannot be the best, whatever its
        Q_2: the second network sees the others only. Where both networks learn the same values
        these are a tenth of the candidates. On a CPU with bfloat16 products, wide layers choose
        the candidate in that precision (candidates closer than its rounding may change places);
        its value is always that of float32.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N,).
        """
        if states.device.type != "cpu":  # There, finding out which are left takes longer.
            return self.smaller_q(states, latents).amax(dim=1)
        states, latents = self._inputs(states), self.latent_normaliser(latents)
        first, second = cast("tuple[QNetwork, QNetwork]", tuple(self.networks))
        most = max(1, ROWS_AT_ONCE["cpu"] // max(1, latents.shape[1]))
        blocks = [slice(start, start + most) for start in range(0, len(states), most)]
        part = first.state_part(states).unsqueeze(1)
        upper = torch.cat([first.screen(part[block], latents[block]) for block in blocks])
        part = second.state_part(states)
        top = upper.topk(min(FIRST_LOOK, upper.shape[1]), dim=1)
        looked = latents.take_along_dim(top.indices.unsqueeze(-1), dim=1)
        values = torch.minimum(top.values, second.screen(part.unsqueeze(1), looked))
        smaller = torch.full_like(upper, -torch.inf).scatter_(1, top.indices, values)
        left = (upper > values.amax(dim=1, keepdim=True)).nonzero()
        for start in range(0, len(left), ROWS_AT_ONCE["cpu"]):
            pairs = left[start : start + ROWS_AT_ONCE["cpu"]].unbind(1)
            values = second.screen(part[pairs[0]], latents[pairs])
            smaller[pairs] = torch.minimum(upper[pairs], values)
        chosen = smaller.argmax(dim=1).view(-1, 1, 1)
        best = latents.take_along_dim(chosen, dim=1).squeeze(1)
        return torch.minimum(first(states, best), second(states, best))

    def score(self, states: Tensor, latents: Tensor) -> Tensor:
        """min_j Q_j(s, z) of every candidate (section 4.2), in units of discounted return.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values, (N, n).
        """
        return self.smaller_q(states, latents) / self.config.reward_scale

    def _inputs(self, states: Tensor) -> Tensor:
        """What the networks see of raw states (N, S), once per state and not per candidate."""
        return self.fourier.append_to(self.state_normaliser(states))
