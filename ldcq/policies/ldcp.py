"""LDCP: planning with the world model (supplement B, Algorithm 2)."""

from __future__ import annotations

import numpy as np
import torch

from ldcq.config import ConfigError, SamplingConfig
from ldcq.latent_prior import Draw, LatentPrior
from ldcq.policies.base import Array, Execution, LatentPlanPolicy, derive_seed
from ldcq.policies.costs import Cost
from ldcq.vae.low_level import LowLevelPolicy
from ldcq.world_model import WorldModel

BLOCK_ROWS = 1 << 14
"""States predicted at once."""


class LdcpPolicy(LatentPlanPolicy):
    """Executes the first latent of the path whose predicted end costs least.

    From every state n latents are drawn, the world model predicts where each leads, from there n
    more are drawn, and so on: after d levels n^d ends are compared.

    Args:
        decoder: pi(a | s, z).
        prior: With goals or without.
        world_model: p(s_{t+H} | s_t, z).
        cost: What a path's end costs, J of Algorithm 2.
        candidates: n.
        depth: d.
        sampling: How the prior is sampled.
        execution: How the latent is executed.
        goal_dim: G of the goals that `cost` takes; 0 where it takes none.

    Raises:
        ConfigError: n^d is more than the prior gives in one draw, or `cost` does not give one
            number for a state.
    """

    def __init__(
        self,
        decoder: LowLevelPolicy,
        prior: LatentPrior,
        world_model: WorldModel,
        cost: Cost,
        candidates: int,
        depth: int,
        sampling: SamplingConfig,
        execution: Execution,
        goal_dim: int = 0,
    ) -> None:
        super().__init__(decoder, execution, pursued_dim=goal_dim)
        described = prior.describe()
        self._max_rows, self._prior_has_goals = described.max_rows, described.goal_dim > 0
        _check_size(candidates, depth, self._max_rows)
        self._prior, self._world_model, self._cost = prior, world_model, cost
        self.candidates, self.depth, self._sampling = candidates, depth, sampling
        self._count = candidates
        goals = np.zeros((2, goal_dim), np.float32) if goal_dim else None
        cost(np.zeros((2, decoder.dimensions.state), np.float32), goals)

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Algorithm 2, lines 5 to 11, for every state; see `LatentPlanPolicy.choose`."""
        # As many states at once as one draw takes at the last level.
        together = self._max_rows // self.paths
        parts = [
            self._best(
                states[start : start + together],
                None if goals is None else goals[start : start + together],
                derive_seed(seed, start),
            )
            for start in range(0, len(states), together)
        ]
        return np.concatenate(parts)

    def _best(self, states: Array, goals: Array | None, seed: int) -> Array:
        count = len(states)
        first: Array = np.empty(0)
        for level in range(self.depth):
            # 5-9: n latents of every state
            latents = self._sample(states, goals, derive_seed(seed, "level", level))
            first = latents if level == 0 else first
            # 10: s_H = p(s_H | s_0, z)
            states = self._predict(states, latents)
            goals = None if goals is None else goals.repeat(self._count, axis=0)
        # 11: i = argmin J(s_H); a latent costs what the best of the paths that begin with it costs
        costs = np.nan_to_num(self._cost(states, goals), nan=np.inf)
        best = costs.reshape(count, self._count, -1).min(axis=2).argmin(axis=1)
        chosen: Array = first[np.arange(count), best]
        return chosen

    def _sample(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Latents (R, n, Z) for states (R, S): one draw for a whole level."""
        asked = goals if self._prior_has_goals else None
        return self._prior.sample(Draw(states, self._count, self._sampling, seed, asked)).latents

    def _predict(self, states: Array, latents: Array) -> Array:
        """Where latents (R, n, Z) lead from states (R, S), by state, shape (R n, S)."""
        at_once = max(1, BLOCK_ROWS // self._count)
        ends = []
        with torch.no_grad():
            for start in range(0, len(states), at_once):
                block = slice(start, start + at_once)
                known = self.tensor(states[block]).unsqueeze(1).expand(-1, self._count, -1)
                ends.append(self._world_model.predict(known, self.tensor(latents[block])))
        return torch.cat(ends).flatten(0, 1).cpu().numpy()


def _check_size(candidates: int, depth: int, most: int) -> None:
    if candidates**depth <= most:
        return
    fewer = int(most ** (1 / depth) + 1e-9)
    shallower = int(np.log(most) / np.log(candidates) + 1e-9) if candidates > 1 else depth
    raise ConfigError(
        f"actor.planning: {candidates} candidates and depth {depth} compare {candidates}^{depth} = "
        f"{candidates**depth} paths for every state, expected at most {most}, the rows that the "
        f"prior service gives in one call: with this depth at most {fewer} candidates, or with "
        f"these candidates at most depth {shallower}"
    )
