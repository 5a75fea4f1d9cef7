"""LDCQ: the latent of the prior that the critic values most (section 4.2, policy execution)."""

from __future__ import annotations

import numpy as np
import torch

from ldcq.config import SamplingConfig
from ldcq.critic.critic import Critic
from ldcq.latent_prior import LatentPrior
from ldcq.policies.base import Array, Candidates, Execution, LatentPlanPolicy
from ldcq.vae.low_level import LowLevelPolicy


class LdcqPolicy(LatentPlanPolicy):
    """z_max = argmax_z min_j Q_j(s, z) over n latents z ~ p(z | s) (Eq. 7 in latent space).

    Over a Gaussian prior this is BCQ-H (section 5.3).

    Args:
        decoder: pi(a | s, z).
        prior: What the critic was trained over.
        critic: Q_1 and Q_2.
        candidates: n.
        sampling: How the prior is sampled.
        execution: How the latent is executed.

    Raises:
        ConfigError: n is more than the prior gives in one draw.
    """

    def __init__(
        self,
        decoder: LowLevelPolicy,
        prior: LatentPrior,
        critic: Critic,
        candidates: int,
        sampling: SamplingConfig,
        execution: Execution,
    ) -> None:
        super().__init__(decoder, execution)
        self.critic = critic
        self.candidates = candidates
        self._draw = Candidates(prior, candidates, sampling)

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """The best candidate of every state; see `LatentPlanPolicy.choose`."""
        candidates = self._draw(states, goals, seed)
        with torch.no_grad():
            values = self.critic.score(self.tensor(states), self.tensor(candidates))
        best = values.argmax(dim=1).cpu().numpy()
        chosen: Array = candidates[np.arange(len(states)), best]
        return chosen
