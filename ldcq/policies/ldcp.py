"""Planning with the world model (LDCP: supplement B, Algorithm 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.rpc.clients import PriorClient
from ldcq.config import ConfigError
from ldcq.policies.base import LatentPlanPolicy, PolicySettings
from ldcq.policies.costs import Cost
from ldcq.world_model import WorldModel
from services.actor.models import Models
from services.actor.plans import derive_seed

Array = NDArray[Any]

BLOCK_ROWS = 1 << 14
"""States predicted at once."""


class PlannedPolicy(LatentPlanPolicy):
    """Executes the first latent of the path whose predicted end costs least.

    From every state n latents are drawn, the world model predicts where each leads, from there n
    more are drawn, and so on: after d levels n^d ends are compared.

    Args:
        method: The method's name, part of its plans.
        models: Decoder and world model.
        client: The prior service; it must serve `models.served_version`.
        settings: How to execute; `candidates` is n, `depth` is d.
        cost: What a path's end costs.

    Raises:
        ConfigError: n^d is more than the prior gives in one call, or `cost` does not give one
            number for a state.
    """

    def __init__(
        self,
        method: str,
        models: Models,
        client: PriorClient,
        settings: PolicySettings,
        cost: Cost,
    ) -> None:
        super().__init__(method, models, settings)
        if models.world_model is None:
            raise ValueError("models.world_model: got none, expected one to plan with")
        _check_size(settings)
        self._client, self._cost = client, cost
        self._world_model: WorldModel = models.world_model
        goals = np.zeros((2, models.goal_dim), np.float32) if models.goal_dim else None
        cost(np.zeros((2, models.decoder.dimensions.state), np.float32), goals)

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Algorithm 2, line 5 to 11, for every state; see `LatentPlanPolicy.choose`."""
        # As many states at once as one call to the prior takes at the last level.
        together = self.settings.max_rows // self.settings.paths
        parts = [
            self._plan(
                states[start : start + together],
                None if goals is None else goals[start : start + together],
                derive_seed(seed, start),
            )
            for start in range(0, len(states), together)
        ]
        return np.concatenate(parts)

    def _plan(self, states: Array, goals: Array | None, seed: int) -> Array:
        count, candidates = len(states), self.settings.candidates
        first: Array = np.empty(0)
        for level in range(self.settings.depth):
            latents = self._sample(states, goals, derive_seed(seed, "level", level))
            first = latents if level == 0 else first
            states = self._predict(states, latents)
            goals = None if goals is None else goals.repeat(candidates, axis=0)
        costs = np.nan_to_num(self._cost(states, goals), nan=np.inf)
        # A first latent costs what the best of the paths that begin with it costs.
        best = costs.reshape(count, candidates, -1).min(axis=2).argmin(axis=1)
        chosen: Array = first[np.arange(count), best]
        return chosen

    def _sample(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Latents (R, n, Z) for states (R, S): one call for a whole level."""
        samples = self._client.sample(
            states,
            self.settings.candidates,
            seed=seed,
            options=self.settings.sampling,
            goals=goals if self.models.prior_takes_goals else None,
            priority="actor",
            expected_version=self.models.served_version,
        )
        return samples.latents

    def _predict(self, states: Array, latents: Array) -> Array:
        """Where latents (R, n, Z) lead from states (R, S), by state, shape (R n, S)."""
        candidates = latents.shape[1]
        at_once = max(1, BLOCK_ROWS // candidates)
        ends = []
        with torch.no_grad():
            for start in range(0, len(states), at_once):
                block = slice(start, start + at_once)
                known = self._tensor(states[block]).unsqueeze(1).expand(-1, candidates, -1)
                ends.append(self._world_model.predict(known, self._tensor(latents[block])))
        return torch.cat(ends).flatten(0, 1).cpu().numpy()


def _check_size(settings: PolicySettings) -> None:
    candidates, depth, most = settings.candidates, settings.depth, settings.max_rows
    if settings.paths <= most:
        return
    fewer = int(most ** (1 / depth) + 1e-9)
    shallower = int(np.log(most) / np.log(candidates) + 1e-9) if candidates > 1 else depth
    raise ConfigError(
        f"actor.planning: {candidates} candidates and depth {depth} compare {candidates}^{depth} = "
        f"{settings.paths} paths for every state, expected at most {most}, the rows that the prior "
        f"service gives in one call: with this depth at most {fewer} candidates, or with these "
        f"candidates at most depth {shallower}"
    )
