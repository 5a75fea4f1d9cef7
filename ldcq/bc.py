"""Trains pi(a | s) on single steps of the data: maximum likelihood, no latents."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config
from ldcq.data.statistics import state_statistics
from ldcq.data.windows import Windows
from ldcq.learning.supervised import SupervisedLearner
from ldcq.nn.normaliser import Normaliser
from ldcq.vae.decoder import make_decoder
from ldcq.vae.latent_policy import KIND_CLONED, LatentPolicy, bounds_to_json


class BcLearner(SupervisedLearner):
    """Maximises log pi(a | s), with the VAE's decoder over latents of no dimension.

    Attributes:
        policy: What is trained.
        details: What rebuilding it needs beyond its dimensions.
    """

    def __init__(self, config: Config, steps: Windows, device: torch.device) -> None:
        """Initialises the network from torch's global random state.

        Args:
            config: The variant's configuration.
            steps: The data as windows of one step.
            device: Where to train.
        """
        spaces, settings = steps.episodes.spaces, config.bc
        low, high = spaces.action_low.tolist(), spaces.action_high.tolist()
        statistics = state_statistics(steps)
        dimensions = {
            "state": spaces.state_dim,
            "action": spaces.action_dim,
            "latent": 0,
            "horizon": 1,
            "discrete_actions": spaces.discrete_actions,
            "goal": 0,
        }
        self.policy = LatentPolicy(
            "",
            dimensions,
            Normaliser(
                torch.from_numpy(statistics.state_mean), torch.from_numpy(statistics.state_std)
            ),
            make_decoder(
                state_dim=spaces.state_dim,
                latent_dim=0,
                action_dim=spaces.action_dim,
                hidden=settings.hidden,
                discrete_actions=spaces.discrete_actions,
                min_std=settings.min_std,
                action_low=low,
                action_high=high,
            ),
        ).to(device)
        self.dimensions = dimensions
        self.details = {
            "decoder_hidden": settings.hidden,
            "min_std": settings.min_std,
            "action_low": bounds_to_json(low),
            "action_high": bounds_to_json(high),
        }
        super().__init__(
            KIND_CLONED,
            self.policy,
            settings,
            seed=config.seed,
            training=steps.training,
            held_out=steps.held_out,
        )
        self._steps, self._device = steps, device

    def metrics(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """`loss`: -log pi(a | s) in nats per step.

        Args:
            rows: Steps of the data.
            share: Which of them to look at.
            random: Not used: nothing is drawn.
        """
        del random
        chosen = rows[share]
        states = torch.from_numpy(self._steps.first_states(chosen)).to(self._device)
        actions = torch.from_numpy(self._steps.actions(chosen)[:, 0]).to(self._device)
        nothing = states.new_zeros(len(states), 0)
        standardised = self.policy.state_normaliser(states)
        return {"loss": -self.policy.decoder.log_prob(standardised, nothing, actions).mean()}
