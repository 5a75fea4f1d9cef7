"""Algorithm 1 as it reads, in straightforward PyTorch: what `ldcq bench learner` compares with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ldcq.config import CriticConfig
from ldcq.critic.transitions import Transitions

Timed = Callable[[str, Callable[..., Any]], Callable[..., Any]]


def plain_q_network(state_dim: int, latent_dim: int, hidden: Sequence[int]) -> nn.Sequential:
    """Q(s, z) of section A.2.3: linear layers, LayerNorm before each GELU, a linear output."""
    layers: list[nn.Module] = []
    for inputs, width in pairwise((state_dim + latent_dim, *hidden)):
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))


class PlainReplay:
    """Prioritised replay the way it is commonly written: probabilities of all windows, and
    `numpy`'s `choice` by them.
    """

    def __init__(self, size: int, alpha: float, beta: float) -> None:
        self._priorities = np.ones(size, dtype=np.float32)
        self._alpha, self._beta = alpha, beta
        self._random = np.random.default_rng(0)

    def draw(self, count: int) -> tuple[NDArray[np.int64], Tensor]:
        """Indices and importance weights, (B,) each."""
        probabilities = self._priorities**self._alpha
        probabilities /= probabilities.sum()
        indices = self._random.choice(len(probabilities), count, p=probabilities)
        weights = (len(probabilities) * probabilities[indices]) ** -self._beta
        return indices, torch.from_numpy(weights / weights.max()).float()

    def update(self, indices: NDArray[np.int64], priorities: NDArray[np.float32]) -> None:
        """Sets the priorities of windows just used."""
        self._priorities[indices] = priorities + 1e-6


class PlainLearner:
    """One update of Algorithm 1: the state repeated for every candidate, both target networks on
    [s; z] of all of them, float32 candidates, gradients of both networks, Polyak in a loop.

    Args:
        config: Sizes and rates.
        transitions: The windows.
        candidates: Of every window's next state, float32 (M, n, Z).
        timed: Wraps a function so that its time is counted as a part's.
    """

    def __init__(
        self, config: CriticConfig, transitions: Transitions, candidates: Tensor, timed: Timed
    ) -> None:
        state_dim, latent_dim = transitions.state.shape[1], transitions.latent_mean.shape[1]
        self.networks = [plain_q_network(state_dim, latent_dim, config.hidden) for _ in range(2)]
        self.targets = deepcopy(self.networks)
        parameters = [p for network in self.networks for p in network.parameters()]
        self._optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
        self._replay = PlainReplay(len(transitions), config.replay.alpha, config.replay.beta)
        self._config, self._transitions, self._candidates = config, transitions, candidates
        self._draw = timed("sampling", self._replay.draw)
        self._gather = timed("candidates", self._take)
        self._target = timed("target", self.target)
        self._prioritise = timed("priorities", self._replay.update)

    def update(self, _: int) -> None:
        """Lines 4 to 12 of Algorithm 1."""
        windows = self._transitions
        rows, weights = self._draw(self._config.batch_size)
        indices = torch.from_numpy(rows)
        candidates = self._gather(indices)
        targets = self._target(
            windows.reward[indices],
            windows.discount[indices],
            windows.next_state[indices],
            candidates,
        )
        mean, std = windows.latent_mean[indices], windows.latent_std[indices]
        latents = mean + std * torch.randn_like(mean)
        pairs = torch.cat([windows.state[indices], latents], dim=1)
        values = [network(pairs).squeeze(1) for network in self.networks]
        loss = sum(((weights * (value - targets) ** 2).mean() for value in values), torch.zeros(()))
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        with torch.no_grad():
            for target, network in zip(self.targets, self.networks, strict=True):
                for old, new in zip(target.parameters(), network.parameters(), strict=True):
                    rate = self._config.target_update_rate
                    old.data.copy_((1 - rate) * old.data + rate * new.data)
            errors = sum((value - targets).abs() for value in values) / 2
        self._prioritise(rows, torch.as_tensor(errors).numpy())

    @torch.no_grad()
    def target(
        self, reward: Tensor, discount: Tensor, next_state: Tensor, candidates: Tensor
    ) -> Tensor:
        """The target: r + gamma^H max_z min_j Q_j(s_{t+H}, z), (B,)."""
        batch, count, latent_dim = candidates.shape
        states = next_state.repeat_interleave(count, dim=0)
        pairs = torch.cat([states, candidates.reshape(-1, latent_dim)], dim=1)
        first, second = (network(pairs).view(batch, count) for network in self.targets)
        best: Tensor = torch.min(first, second).max(dim=1).values
        return reward + discount * best

    def _take(self, indices: Tensor) -> Tensor:
        return self._candidates[indices]
