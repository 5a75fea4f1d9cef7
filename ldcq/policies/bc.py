"""BC: a network pi(a | s) that needs no latent."""

from __future__ import annotations

import numpy as np

from ldcq.policies.base import Array, Execution, LatentPlanPolicy
from ldcq.vae.low_level import LowLevelPolicy


class BcPolicy(LatentPlanPolicy):
    """Behaviour cloning: pi(a | s) is a decoder over latents of no dimension.

    Args:
        network: pi(a | s).
        sample_actions: Draw actions from the network instead of taking its mode.
    """

    def __init__(self, network: LowLevelPolicy, sample_actions: bool = False) -> None:
        super().__init__(network, Execution(steps=1, sample_actions=sample_actions))

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Nothing to choose, shape (N, 0)."""
        del goals, seed
        return np.zeros((len(states), 0), dtype=np.float32)
