"""LDCQ: the latent of the prior that the critic values most (section 4.2, policy execution)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldcq.config import SamplingConfig, SupportConfig
from ldcq.critic.critic import Critic
from ldcq.latent_prior import LatentPrior
from ldcq.policies.base import Array, Candidates, Execution, LatentPlanPolicy
from ldcq.support import supported
from ldcq.vae.low_level import LowLevelPolicy
from ldcq.world_model import WorldModel


@dataclass(frozen=True)
class SupportCheck:
    """Leaves the choice to candidates that lead to where the data are; see `supported`.

    Attributes:
        world_model: Says where candidates lead.
        settings: How far from the data they may.
    """

    world_model: WorldModel
    settings: SupportConfig

    def __call__(self, values: Tensor, states: Tensor, latents: Tensor) -> Tensor:
        """Values (N, n) for the argmax, of latents (N, n, Z) in raw states (N, S)."""
        repeated = states.unsqueeze(1).expand(-1, latents.shape[1], -1)
        distances = self.world_model.distance(repeated, latents)
        limit = self.world_model.support.limit(self.settings.quantile)
        return supported(values, distances, limit, self.settings.kept)


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
        support: Which candidates may be chosen; None: all.

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
        support: SupportCheck | None = None,
    ) -> None:
        super().__init__(decoder, execution)
        self.critic = critic
        self.candidates = candidates
        self._support = support
        self._draw = Candidates(prior, candidates, sampling)

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """The best candidate of every state; see `LatentPlanPolicy.choose`."""
        candidates = self._draw(states, goals, seed)
        with torch.no_grad():
            known, latents = self.tensor(states), self.tensor(candidates)
            values = self.critic.score(known, latents)
            if self._support is not None:
                values = self._support(values, known, latents)
        best = values.argmax(dim=1).cpu().numpy()
        chosen: Array = candidates[np.arange(len(states)), best]
        return chosen
