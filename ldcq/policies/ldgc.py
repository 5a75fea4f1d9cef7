"""LDGC: one latent of a prior that knows the goal (section 4.3)."""

from __future__ import annotations

from ldcq.config import SamplingConfig
from ldcq.latent_prior import LatentPrior
from ldcq.policies.base import Array, Candidates, Execution, LatentPlanPolicy
from ldcq.vae.low_level import LowLevelPolicy


class LdgcPolicy(LatentPlanPolicy):
    """z ~ p(z | s, g): no values, the goal alone decides.

    Over a prior without goals this is behaviour cloning by one latent, z ~ p(z | s).

    Args:
        decoder: pi(a | s, z).
        prior: With goals or without.
        sampling: How the prior is sampled.
        execution: How the latent is executed.
    """

    def __init__(
        self,
        decoder: LowLevelPolicy,
        prior: LatentPrior,
        sampling: SamplingConfig,
        execution: Execution,
    ) -> None:
        self._draw = Candidates(prior, 1, sampling)
        super().__init__(decoder, execution, pursued_dim=self._draw.goal_dim)
        self.candidates = 1

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """One latent of every state; see `LatentPlanPolicy.choose`."""
        return self._draw(states, goals, seed)[:, 0]
