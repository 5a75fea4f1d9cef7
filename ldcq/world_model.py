"""The world model p(s_{t+H} | s_t, z), and its training (supplement B, Eq. 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ldcq.config import Config, WorldModelConfig
from ldcq.critic.transitions import Outcome, Transitions, moments, normalisers
from ldcq.data.episodes import DataError
from ldcq.data.latents import LatentTable
from ldcq.data.statistics import CONSTANT
from ldcq.learning.batches import generator, moved
from ldcq.learning.captured import Tensors
from ldcq.learning.supervised import SupervisedLearner
from ldcq.nn.distributions import Gaussian, log_density
from ldcq.nn.mlp import mlp
from ldcq.nn.model import Dimensions, Model
from ldcq.nn.normaliser import Normaliser
from ldcq.support import StateSupport


class WorldModel(Model):
    """A diagonal Gaussian over the standardised change s_{t+H} - s_t.

    Changes are what H steps decide; of the state itself the network would have to copy most. With
    `world_model.rewards` it predicts the changes after K numbers of steps, the last of them H, and
    for each the mean of r_{t:t+k}, and of gamma^k while the episode goes on.

    Args:
        dimensions: Of states and latents, and `lengths`, K.
        config: The section `world_model`.

    Attributes:
        state_normaliser: Of raw states (S,).
        latent_normaliser: Of raw latents (Z,).
        change_normaliser: Of raw changes (K S,).
        gain_normaliser: Of rewards, then discounts (2 K,); empty without `rewards`.
        support: The data's states s_{t+H}, standardised by `state_normaliser`.
    """

    kind = "world_model"
    Settings = WorldModelConfig
    dimensions: Dimensions
    config: WorldModelConfig

    def __init__(self, dimensions: Dimensions, config: WorldModelConfig) -> None:
        super().__init__(dimensions, config)
        states, latents = dimensions.state, dimensions.latent
        self.state_normaliser = Normaliser.identity(states)
        self.latent_normaliser = Normaliser.identity(latents)
        changes, gains = dimensions.lengths * states, 2 * dimensions.lengths * config.rewards
        self.change_normaliser = Normaliser.identity(changes)
        self.gain_normaliser = Normaliser.identity(gains)
        self.support = StateSupport.unknown(config.reference_states, states)
        inner = [states + latents, *config.hidden]
        self.network = mlp([*inner, 2 * changes], nn.GELU, layer_norm=True)
        # Their own: the density's gradients, over sigma squared, would drown those of rewards.
        self.gains = mlp([*inner, gains], nn.GELU, layer_norm=True) if gains else None

    def forward(self, states: Tensor, latents: Tensor) -> Gaussian:
        """The standardised change.

        Args:
            states: Raw s_t, shape (..., S).
            latents: Raw z, shape (..., Z).

        Returns:
            Mean and deviation, each (..., K S).
        """
        mean, raw_std = self.network(self._known(states, latents)).chunk(2, dim=-1)
        return Gaussian.of(mean, raw_std, self.config.min_std)

    def loss(self, states: Tensor, latents: Tensor, outcome: Outcome) -> Tensor:
        """-log p of the standardised changes to states that were seen, in nats per dimension, and
        half the squared error of standardised rewards and discounts; both means.

        Args:
            states: Raw s_t, shape (..., S).
            latents: Raw z, shape (..., Z).
            outcome: What came of them.
        """
        changes = (outcome.states - states.unsqueeze(-2)).flatten(-2)
        density = log_density(self.change_normaliser(changes), self(states, latents))
        seen = outcome.seen
        if seen is not None:
            seen = seen.repeat_interleave(states.shape[-1], dim=-1)
        loss = -_mean(density, seen)
        if self.gains is None:
            return loss
        gains = self.gains(self._known(states, latents))
        sought = self.gain_normaliser(torch.cat([outcome.rewards, outcome.discounts], dim=-1))
        return loss + 0.5 * functional.mse_loss(gains, sought)

    def predict(self, states: Tensor, latents: Tensor) -> Tensor:
        """The mean of p(s_{t+H} | s_t, z), raw, shape (..., S); arguments as of `forward`."""
        return self.ends(states, latents)[..., -1, :]

    def ends(self, states: Tensor, latents: Tensor) -> Tensor:
        """The means of s_{t+k} for each number of steps, raw, shape (..., K, S); arguments as of
        `forward`.
        """
        changes = self.change_normaliser.inverse(self(states, latents).mean)
        return states.unsqueeze(-2) + changes.view(*states.shape[:-1], -1, states.shape[-1])

    def earnings(self, states: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The means of r_{t:t+k}, and of gamma^k while the episode goes on, (..., K) each;
        arguments as of `forward`.

        Raises:
            AssertionError: It was made without `rewards`.
        """
        assert self.gains is not None, "a world model without rewards"
        gains = self.gain_normaliser.inverse(self.gains(self._known(states, latents)))
        rewards, discounts = gains.chunk(2, dim=-1)
        return rewards, discounts.clamp(0, 1)

    def _known(self, states: Tensor, latents: Tensor) -> Tensor:
        """What the networks take, (..., S + Z)."""
        return torch.cat([self.state_normaliser(states), self.latent_normaliser(latents)], dim=-1)


class WorldModelLearner(SupervisedLearner):
    """Maximises log p(s_{t+H} | s_t, z) over z ~ q(z | tau).

    A window that truly ends does so at its last step: its s_{t+H} is the terminal state, and is
    learned like any other where it was recorded. Where it was not (`LatentTable.end_seen`), only
    the rewards and that the episode ends are learned.

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
            DataError: All windows are held out for validation, or none has a next state that was
                recorded.
        """
        training = table.training
        first = windows.batch(slice(0, 1))
        self._lengths = config.lengths if config.world_model.rewards else ()
        dimensions = Dimensions(
            state=first.state.shape[1],
            latent=first.latent_mean.shape[1],
            lengths=len(self._lengths) + 1,
        )
        kept = max(min(config.world_model.reference_states, len(training) // 2), 1)
        settings = config.world_model.model_copy(update={"reference_states": kept})
        self.model = WorldModel(dimensions, settings)
        self._discount = config.discount
        seen = training if table.end_seen is None else training[table.end_seen[training]]
        if not len(seen):
            raise DataError(
                f"latents: the next state of none of {len(training)} training windows was "
                "recorded; expected `next_observations` in the data, or windows shorter than the "
                "episodes"
            )
        _fit_normalisers(self.model, windows, training, seen, self._outcome)
        _fit_support(self.model, windows, training, generator(config.seed, WorldModel.kind, "data"))
        super().__init__(self.model.to(windows.device), settings, table, config.seed)
        self._goal = torch.tensor(config.data.goal_indices, dtype=torch.long, device=windows.device)
        self._windows = windows

    def inputs(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """The columns of some windows, and noise for z, (B, Z)."""
        # Drawn on the CPU and for all, so that the noise depends on no device and no share.
        noise = torch.randn(len(rows), self.model.dimensions.latent, generator=random)[share]
        columns = self._windows.batch(rows[share]).columns
        return {**columns, "noise": moved(noise, self._windows.device)}

    def metrics(self, inputs: Tensors) -> dict[str, Tensor]:
        """The loss, and how far predictions are off.

        Returns:
            `loss`: see `WorldModel.loss`; `error`: root mean square error of the mean of
            s_{t+H} - s_t, in deviations of it; `goal_error` (for tasks with goals): mean Euclidean
            error of the entries of s_{t+H} that goals prescribe, in their own units;
            `reward_error` (with `world_model.rewards`): root mean square error of r_{t:t+H}.
        """
        columns = dict(inputs)
        noise = columns.pop("noise")
        block = Transitions(used_on=None, **columns)
        latents = block.latent_mean + block.latent_std * noise
        found = {"loss": self.model.loss(block.state, latents, self._outcome(block))}
        with torch.no_grad():
            off = self.model.predict(block.state, latents) - block.next_state
            deviations = self.model.change_normaliser.std[-off.shape[1] :]
            seen = None if block.end_seen is None else block.end_seen.unsqueeze(1)
            found["error"] = _mean((off / deviations).square(), seen).sqrt()
            if len(self._goal):
                missed = off.index_select(1, self._goal).norm(dim=1, keepdim=True)
                found["goal_error"] = _mean(missed, seen)
            if self.model.gains is not None:
                rewards, _ = self.model.earnings(block.state, latents)
                found["reward_error"] = (rewards[:, -1] - block.reward).square().mean().sqrt()
        return found

    def _outcome(self, block: Transitions) -> Outcome:
        """What came of some windows, for the numbers of steps that the model knows."""
        if self.model.config.rewards:
            return block.by_length(self._lengths, self._discount)
        return replace(block, part_reward=None, part_state=None).by_length((), self._discount)


def _mean(values: Tensor, seen: Tensor | None) -> Tensor:
    """Over those of which the state was seen, of a shape that broadcasts; 0 where none was."""
    if seen is None:
        return values.mean()
    seen = seen.expand_as(values)
    return (values * seen).sum() / seen.sum().clamp_min(1)


def _fit_normalisers(
    model: WorldModel,
    windows: Transitions,
    training: NDArray[np.int64],
    seen: NDArray[np.int64],
    outcome_of: Callable[[Transitions], Outcome],
) -> None:
    """Sets them to the training windows' states, latents z ~ q, rewards and discounts, and to the
    changes of those whose next state was seen.
    """

    def changes(block: Transitions) -> Tensor:
        return (outcome_of(block).states - block.state.unsqueeze(1)).flatten(1)

    def gains(block: Transitions) -> Tensor:
        outcome = outcome_of(block)
        return torch.cat([outcome.rewards, outcome.discounts], dim=1)

    def certain(block: Transitions) -> Tensor:
        return torch.zeros(1, device=block.state.device)

    model.state_normaliser, model.latent_normaliser = normalisers(windows, training)
    model.change_normaliser = _exact(*moments(windows, changes, certain, seen))
    if model.config.rewards:
        model.gain_normaliser = _exact(*moments(windows, gains, certain, training))


def _exact(mean: Tensor, deviation: Tensor) -> Normaliser:
    """Of what a network puts out: what never changes is told as it is, whatever the network says.
    Divided by 1, as an input is, it would be told with the network's error.
    """
    return Normaliser(mean, deviation.maximum(CONSTANT * mean.abs().clamp_min(1.0)))


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
