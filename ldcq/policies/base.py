"""Policies over latents: the best of n candidates by the critic, or one unranked sample (section
4.2), or a network that needs none.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.rpc.clients import PriorClient
from ldcq.config import ConfigError, SamplingConfig
from services.actor import metrics
from services.actor.models import Models
from services.actor.plans import Plan, derive_seed

Array = NDArray[Any]


@dataclass(frozen=True)
class NearGoal:
    """Where plans are shorter.

    Attributes:
        indices: Entries of the state that a goal prescribes, in the goal's order.
        distance: From the goal, up to which they are.
        execute_steps: Steps of a latent that are executed there.
    """

    indices: tuple[int, ...]
    distance: float
    execute_steps: int


@dataclass(frozen=True)
class PolicySettings:
    """How a policy is executed.

    Attributes:
        candidates: n, latents drawn per state; 0 where none are.
        execute_steps: Steps of a latent that are executed before the next is chosen.
        sampling: How the prior is sampled.
        sample_actions: Draw actions from the decoder instead of taking its mode.
        max_rows: The most latents that one call to the prior may ask for.
        depth: Latents in a row that are compared; 0 where none are.
    """

    candidates: int
    execute_steps: int
    sampling: SamplingConfig
    sample_actions: bool
    max_rows: int = 0
    depth: int = 1
    near_goal: NearGoal | None = None

    @property
    def paths(self) -> int:
        """Paths of latents that one decision compares, n^d (supplement B)."""
        return int(self.candidates**self.depth)


class LatentPlanPolicy(ABC):
    """Executes latents: chooses one where none is left, decodes an action of it on the current
    state at every step.

    It remembers nothing; what it must know of the past is the `Plan` that goes in and comes out.

    Args:
        method: The method's name, part of its plans.
        models: What is executed.
        settings: How to execute.
    """

    def __init__(self, method: str, models: Models, settings: PolicySettings) -> None:
        self.method = method
        self.models = models
        self.settings = settings
        self._device = models.decoder.state_normaliser.mean.device

    @property
    def goal_dim(self) -> int:
        """G of the goals that the policy asks for; 0 where it asks for none and ignores them."""
        near = self.settings.near_goal
        return self.models.goal_dim or (len(near.indices) if near else 0)

    def act(
        self,
        states: Array,
        goals: Array | None,
        plan: Plan | None,
        restart: Array | None,
        seed: int,
    ) -> tuple[Array, Plan]:
        """One step of E environments.

        Args:
            states: Raw, shape (E, S), float32.
            goals: In the environment's units, shape (E, G), float32; None will do where `goal_dim`
                is 0.
            plan: What the last step of these environments returned; None to begin.
            restart: Environments whose plan is dropped, shape (E,), bool; None: none.
            seed: Fixes the candidates (and the actions, where they are drawn).

        Returns:
            Actions (E, A), or indices (E, 1) where they are discrete, and the plan for the next
            step.

        Raises:
            RpcError: The prior service is away, or serves another model.
        """
        plan = self._renewed(states, goals if self.goal_dim else None, plan, restart, seed)
        generator = None
        if self.settings.sample_actions:
            # Within one plan number every plan only gets shorter, so the pair names the step.
            step_seed = derive_seed(seed, "actions", plan.plans, int(plan.steps_left.min()))
            generator = torch.Generator(self._device).manual_seed(step_seed)
        with metrics.DECODE_SECONDS.time():
            actions = self.models.decoder.act(
                self._tensor(states), self._tensor(plan.latents), generator
            )
        left = (plan.steps_left - 1).astype(np.int32)
        used = Plan(plan.method, plan.model_versions, plan.latents, left, plan.plans)
        return actions.cpu().numpy(), used

    @abstractmethod
    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Chooses a latent for every state.

        Args:
            states: Raw, shape (N, S), float32.
            goals: Shape (N, G), float32, for a policy that pursues goals, else None.
            seed: Fixes what is drawn.

        Returns:
            Latents, shape (N, Z), float32.
        """

    def _renewed(
        self,
        states: Array,
        goals: Array | None,
        plan: Plan | None,
        restart: Array | None,
        seed: int,
    ) -> Plan:
        """`plan` with a new latent wherever nothing is left of the old one."""
        if plan is None:
            width, latent_dim = len(states), self.models.decoder.dimensions.latent
            latents = np.zeros((width, latent_dim), dtype=np.float32)
            left, plans = np.zeros(width, dtype=np.int32), 0
        else:
            latents, left, plans = plan.latents.copy(), plan.steps_left.copy(), plan.plans
        due = (left == 0) if restart is None else (left == 0) | restart
        if due.any():
            asked = None if goals is None else goals[due]
            pursued = asked if self.models.goal_dim else None
            with metrics.CHOOSE_SECONDS.labels(self.method).time():
                latents[due] = self.choose(states[due], pursued, derive_seed(seed, plans))
            left[due] = self._steps(states[due], asked)
            plans += 1
        return Plan(self.method, self.models.versions, latents, left, plans)

    def _steps(self, states: Array, goals: Array | None) -> Array | int:
        """How many steps are executed of latents chosen in states (N, S)."""
        far, near = self.settings.execute_steps, self.settings.near_goal
        if near is None or goals is None:
            return far
        distance = np.linalg.norm(states[:, list(near.indices)] - goals, axis=1)
        return np.where(distance <= near.distance, near.execute_steps, far)

    def _tensor(self, array: Array) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self._device)


class SampledPolicy(LatentPlanPolicy):
    """z_max = argmax_z min_j Q_j(s, z) over n prior samples; without a critic, one sample as it is.

    Args:
        method: The method's name, part of its plans.
        models: Decoder and critic.
        client: The prior service; it must serve `models.served_version`.
        settings: How to execute.

    Raises:
        ConfigError: One state's candidates are more than the prior gives in one call.
    """

    def __init__(
        self, method: str, models: Models, client: PriorClient, settings: PolicySettings
    ) -> None:
        super().__init__(method, models, settings)
        if settings.candidates > settings.max_rows:
            raise ConfigError(
                f"actor.candidates is {settings.candidates}, expected at most {settings.max_rows}, "
                f"the rows that the prior service gives in one call"
            )
        self._client = client

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """The best candidate of every state; see `LatentPlanPolicy.choose`."""
        per_call = self.settings.max_rows // self.settings.candidates
        asked = goals if self.models.prior_takes_goals else None
        calls = [
            self._client.sample_async(
                states[start : start + per_call],
                self.settings.candidates,
                seed=derive_seed(seed, start),
                options=self.settings.sampling,
                goals=None if asked is None else asked[start : start + per_call],
                priority="actor",
                expected_version=self.models.served_version,
            )
            for start in range(0, len(states), per_call)
        ]
        candidates = np.concatenate([call.result().latents for call in calls])
        return candidates[np.arange(len(states)), self._best(states, candidates)]

    def _best(self, states: Array, candidates: Array) -> Array:
        if self.models.critic is None:
            return np.zeros(len(states), dtype=np.int64)
        with torch.no_grad():
            values = self.models.critic.score(self._tensor(states), self._tensor(candidates))
        best: Array = values.argmax(dim=1).cpu().numpy()
        return best


class ClonedPolicy(LatentPlanPolicy):
    """Behaviour cloning: pi(a | s) is a decoder over latents of no dimension."""

    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Nothing to choose, shape (N, 0)."""
        del goals, seed
        return np.zeros((len(states), 0), dtype=np.float32)


class PolicyAgent:
    """A policy bound to one rollout: keeps the plan between its steps.

    Args:
        policy: The policy.
        seed: The rollout's seed.
    """

    def __init__(self, policy: LatentPlanPolicy, seed: int) -> None:
        self._policy = policy
        self._seed = seed
        self._plan: Plan | None = None

    def __call__(self, states: Array, goals: Array | None, restart: Array) -> Array:
        """Actions (E, A) for states (E, S) and goals (E, G); `restart` (E,) marks episodes that
        have just begun.
        """
        actions, self._plan = self._policy.act(states, goals, self._plan, restart, self._seed)
        return actions
