"""The latent action value Q(s, z): Q-networks and their input statistics (4.2, A.2.3)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ldcq.config import CriticConfig
from ldcq.critic.q_network import QNetwork
from ldcq.critic.screening import screened_max
from ldcq.critic.targets import together
from ldcq.nn.model import Dimensions, Model
from ldcq.nn.normaliser import Normaliser

ROWS_AT_ONCE = {"cpu": 1024, "cuda": 262_144}
"""State-latent pairs evaluated at once over many candidates. On a CPU the activations then stay in
the cache, which halves the time of 64,000 pairs; on a GPU it only bounds the memory."""


class Critic(Model):
    """J Q-networks over raw states and latents, and a V-network where a target or `dueling` asks.

    Normalisation is its own. The networks learn values of scaled rewards: `q_values`, `v_values`
    and `greatest` are in those units, `score` in units of discounted return. A latent is valued for
    K numbers of executed steps, the last of them H.

    Attributes:
        state_normaliser: Statistics of the states, (S,).
        latent_normaliser: Statistics of the latents, (Z,).
        networks: Q(s, z), or advantages over V(s) in units of `spread`.
        value: V(s); None without.
        edges: Of the bins that values are distributed over, (bins + 1,).
        spread: Root mean square of the targets' distance to V(s), for each of K lengths; ones
            without `dueling`.
    """

    kind = "critic"
    Settings = CriticConfig
    dimensions: Dimensions
    config: CriticConfig

    def __init__(self, dimensions: Dimensions, config: CriticConfig) -> None:
        """Builds the networks.

        Args:
            dimensions: Of states, latents, and `lengths`, K.
            config: The section `critic`.
        """
        super().__init__(dimensions, config)
        states, latents = dimensions.state, dimensions.latent
        outputs = dimensions.lengths * max(1, config.bins)
        self.state_normaliser = Normaliser.identity(states)
        self.latent_normaliser = Normaliser.identity(latents)
        self.networks = nn.ModuleList(
            QNetwork(states, latents, config.hidden, outputs, config.fourier_features)
            for _ in range(config.networks)
        )
        low, high = config.bounds or (0.0, 0.0)
        edges = config.reward_scale * torch.linspace(low, high, config.bins + 1)
        self.edges: Tensor
        self.register_buffer("edges", edges, persistent=False)
        self.value: QNetwork | None = None
        if config.dueling or config.has_value_network:
            self.value = QNetwork(states, 0, config.hidden, 1, config.fourier_features)
        self.spread: Tensor
        self.register_buffer("spread", torch.ones(dimensions.lengths))

    def q_values(self, states: Tensor, latents: Tensor) -> Tensor:
        """Q_1, ..., Q_J of latents executed for all H steps, in units of scaled rewards.

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, Z) or (N, n, Z).

        Returns:
            Values, (J, N) or (J, N, n).
        """
        return self.q_by_length(states, latents)[..., -1]

    def q_by_length(self, states: Tensor, latents: Tensor) -> Tensor:
        """`q_values` for each number of executed steps, (J, N, K) or (J, N, n, K)."""
        outputs = self.read(self.outputs(states, latents))
        if not self.config.dueling:
            return outputs
        base = self.v_values(states)
        return base.view(-1, *[1] * (outputs.ndim - 2)) + self.spread * outputs

    def outputs(self, states: Tensor, latents: Tensor) -> Tensor:
        """What the Q-networks say themselves, (J, N, K) or (J, N, n, K); with bins, their logits,
        (..., K bins).
        """
        states, latents = self.state_normaliser(states), self.latent_normaliser(latents)
        # A loop: on a CPU it is about twice as fast over many candidates as one batched product
        # over all networks.
        return torch.stack([network(states, latents) for network in self.networks])

    def read(self, outputs: Tensor) -> Tensor:
        """Values, or advantages in units of `spread`, of `outputs`: (..., K)."""
        if not self.config.bins:
            return outputs
        centres = (self.edges[:-1] + self.edges[1:]) / 2
        return self.logits(outputs).softmax(dim=-1) @ centres

    def logits(self, outputs: Tensor) -> Tensor:
        """`outputs` by bins, (..., K, bins)."""
        return outputs.reshape(*outputs.shape[:-1], -1, self.config.bins)

    def v_values(self, states: Tensor) -> Tensor:
        """V(s) of raw states (N, S), in units of scaled rewards, (N,).

        Raises:
            AssertionError: There is no V-network.
        """
        assert self.value is not None, "a critic without a V-network"
        states = self.state_normaliser(states)
        values: Tensor = self.value(states, states[:, :0])
        return values.squeeze(-1)

    @torch.no_grad()
    def follow_spread(self, advantages: Tensor, pace: Tensor) -> None:
        """Moves `spread` towards the root mean square of a batch.

        Args:
            advantages: y - V(s), (B, K).
            pace: What part of the way, a scalar.
        """
        squares = torch.lerp(self.spread.square(), advantages.square().mean(dim=0), pace)
        self.spread.copy_(squares.sqrt().clamp_min(1e-8))

    def lower_q(self, states: Tensor, latents: Tensor) -> Tensor:
        """What the networks say together of every candidate (`targets.together`).

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values in units of scaled rewards, (N, n, K).
        """
        rows = ROWS_AT_ONCE.get(states.device.type, ROWS_AT_ONCE["cuda"])
        most = max(1, rows // max(1, latents.shape[1]))

        # Into one tensor: small results between large blocks would keep the heap from reusing them.
        values = states.new_empty(*latents.shape[:2], self.dimensions.lengths)
        for first in range(0, len(states), most):
            some = slice(first, first + most)
            for start in range(0, latents.shape[1], rows):
                part = slice(start, start + rows)
                each = self.q_by_length(states[some], latents[some, part])
                values[some, part] = together(each, self.config.deviations)
        return values

    def greatest(self, states: Tensor, latents: Tensor) -> Tensor:
        """The value of each state's best candidate, (N,); see `lower_q`."""
        settings = self.config
        plain = settings.networks == 2 and settings.deviations is None and not settings.bins
        if not plain or states.device.type != "cpu" or self.dimensions.lengths > 1:
            return self.lower_q(states, latents)[..., -1].amax(dim=1)
        # On a GPU, ruling candidates out takes longer than looking at all of them.
        first, second = (cast(QNetwork, network) for network in self.networks)
        best = screened_max(
            first, second, self.state_normaliser(states), self.latent_normaliser(latents)
        )
        return self.v_values(states) + self.spread * best if self.config.dueling else best

    def score(self, states: Tensor, latents: Tensor) -> Tensor:
        """What each candidate is worth, executed for all H steps (section 4.2).

        Args:
            states: Raw states, (N, S).
            latents: Raw latents, (N, n, Z).

        Returns:
            Values in units of discounted return, (N, n).
        """
        return self.score_by_length(states, latents)[..., -1]

    def score_by_length(self, states: Tensor, latents: Tensor) -> Tensor:
        """`score` for each number of executed steps, (N, n, K)."""
        return self.lower_q(states, latents) / self.config.reward_scale
