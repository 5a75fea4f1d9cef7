"""How a latent is executed: chosen, decoded step by step, chosen anew (section 4.2)."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ldcq.config import ConfigError, SamplingConfig
from ldcq.latent_prior import Draw, LatentPrior
from ldcq.nn.inference import inference
from ldcq.nn.inference import threads as torch_threads
from ldcq.policy import masked, observed, pursued
from ldcq.vae.frames import Frames
from ldcq.vae.low_level import LowLevelPolicy

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
class Execution:
    """How latents are executed.

    Attributes:
        steps: Steps of a latent that are executed before the next is chosen.
        sample_actions: Draw actions from the decoder instead of taking its mode.
        near_goal: Where plans are shorter; None: nowhere.
    """

    steps: int
    sample_actions: bool = False
    near_goal: NearGoal | None = None


@dataclass(frozen=True)
class Plan:
    """What E environments are executing.

    Attributes:
        latents: Shape (E, Z), float32.
        steps_left: Steps left of each latent, shape (E,), int32.
        plans: How many times latents have been chosen; varies the seed of the next choice.
    """

    latents: NDArray[np.float32]
    steps_left: NDArray[np.int32]
    plans: int


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part and on nothing else, the same on every machine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


class NotFiniteError(ValueError):
    """A state for which no latent can be chosen: it is finite, but overflows on the way.

    Attributes:
        row: Its row among the states.
    """

    def __init__(self, row: int) -> None:
        super().__init__(
            f"states: got a row {row} whose latents or their values are not finite; expected "
            "numbers like those of the data"
        )
        self.row = row


class LatentPlanPolicy(ABC):
    """Executes latents: chooses one where none is left, decodes an action of it on the current
    state at every step.

    It remembers nothing; what it must know of the past is the `Plan` that goes in and comes out.

    Args:
        decoder: pi(a | s, z).
        execution: How to execute.
        pursued_dim: G of the goals that `choose` pursues; 0 where it pursues none.

    Attributes:
        candidates: n, latents of the prior that are looked at for each state; None: no prior.
        depth: d, latents in a row that are compared.
        watch: Entered around each `choose` and each `decode`, by that name: for measurements.
    """

    candidates: int | None = None
    depth: int = 1
    watch: Callable[[str], AbstractContextManager[object]] = staticmethod(
        lambda _part: nullcontext()
    )

    def __init__(self, decoder: LowLevelPolicy, execution: Execution, pursued_dim: int = 0) -> None:
        self.decoder = decoder
        self.execution = execution
        self._pursued_dim = pursued_dim
        self._device = decoder.state_normaliser.mean.device

    @property
    def goal_dim(self) -> int:
        """G of the goals that the policy asks for; 0 where it asks for none and ignores them."""
        near = self.execution.near_goal
        return self._pursued_dim or (len(near.indices) if near else 0)

    @property
    def paths(self) -> int:
        """Paths of latents that one decision compares, n^d."""
        return 0 if self.candidates is None else int(self.candidates**self.depth)

    @inference()
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
            NotFiniteError: No latent can be chosen for a state.
            Exception: Whatever the prior raises.
        """
        plan = self._renewed(states, goals if self.goal_dim else None, plan, restart, seed)
        generator = None
        if self.execution.sample_actions:
            # Within one plan number every plan only gets shorter, so the pair names the step.
            step_seed = derive_seed(seed, "actions", plan.plans, int(plan.steps_left.min()))
            generator = torch.Generator(self._device).manual_seed(step_seed)
        with self.watch("decode"):
            actions = self.decoder.act(self.tensor(states), self.tensor(plan.latents), generator)
        left = (plan.steps_left - 1).astype(np.int32)
        return actions.cpu().numpy(), Plan(plan.latents, left, plan.plans)

    @abstractmethod
    def choose(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Chooses a latent for every state.

        Args:
            states: Raw, shape (N, S), float32.
            goals: Shape (N, G), float32, for a policy that pursues goals, else None.
            seed: Fixes what is drawn.

        Returns:
            Latents, shape (N, Z), float32; NaN where none can be chosen.
        """

    def plan(self, states: Array, goals: Array | None, seed: int) -> tuple[Array, Array | int]:
        """Chooses a latent for every state, and how many steps it is good for.

        Args:
            states: As `choose`.
            goals: As `choose`.
            seed: As `choose`.

        Returns:
            Latents, shape (N, Z), float32, NaN where none can be chosen, and steps, shape
            (N,) or one number for all.
        """
        return self.choose(states, goals, seed), self.decoder.dimensions.horizon

    def tensor(self, array: Array) -> torch.Tensor:
        """An array as float32 where the decoder is."""
        return torch.tensor(array, dtype=torch.float32, device=self._device)

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
            width, latent_dim = len(states), self.decoder.dimensions.latent
            latents = np.zeros((width, latent_dim), dtype=np.float32)
            left, plans = np.zeros(width, dtype=np.int32), 0
        else:
            latents, left, plans = plan.latents.copy(), plan.steps_left.copy(), plan.plans
        due = (left == 0) if restart is None else (left == 0) | restart
        if due.any():
            asked = None if goals is None else goals[due]
            pursued = asked if self._pursued_dim else None
            most = self._steps(states[due], asked)
            with self.watch("choose"):
                chosen, steps = self.plan(states[due], pursued, derive_seed(seed, plans))
            finite = np.isfinite(chosen).all(axis=1)
            if not finite.all():
                raise NotFiniteError(int(np.flatnonzero(due)[finite.argmin()]))
            latents[due], left[due] = chosen, np.minimum(most, steps)
            plans += 1
        return Plan(latents, left, plans)

    def _steps(self, states: Array, goals: Array | None) -> Array | int:
        """How many steps are executed of latents chosen in states (N, S)."""
        far, near = self.execution.steps, self.execution.near_goal
        if near is None or goals is None:
            return far
        distance = np.linalg.norm(states[:, list(near.indices)] - goals, axis=1)
        return np.where(distance <= near.distance, near.execute_steps, far)


class Candidates:
    """n latents of the prior for each of some states, in as few draws as the prior allows.

    Args:
        prior: Draws.
        count: n.
        sampling: How.

    Attributes:
        goal_dim: G of the goals that the prior takes; 0 for one without.
        max_rows: Most latents of one draw.

    Raises:
        ConfigError: One state's candidates are more than the prior gives in one draw.
    """

    def __init__(self, prior: LatentPrior, count: int, sampling: SamplingConfig) -> None:
        described = prior.describe()
        self.goal_dim, self.max_rows = described.goal_dim, described.max_rows
        if count > self.max_rows:
            raise ConfigError(
                f"actor.candidates is {count}, expected at most {self.max_rows}, the rows that the "
                "prior service gives in one call"
            )
        self.count = count
        self._prior, self._sampling = prior, sampling

    def __call__(self, states: Array, goals: Array | None, seed: int) -> Array:
        """Latents (N, n, Z) for states (N, S), and goals (N, G) where the prior takes them."""
        per_draw = self.max_rows // self.count
        asked = goals if self.goal_dim else None
        draws = [
            Draw(
                states=states[start : start + per_draw],
                candidates=self.count,
                options=self._sampling,
                seed=derive_seed(seed, start),
                goals=None if asked is None else asked[start : start + per_draw],
            )
            for start in range(0, len(states), per_draw)
        ]
        calls = [self._prior.sample_async(draw) for draw in draws]
        return np.concatenate([call.result().latents for call in calls])


class StatefulPolicy:
    """A policy that remembers its plan: an `ldcq.policy.Policy` in this process.

    Args:
        policy: Chooses and decodes.
        seed: Fixes everything that is drawn.
        threads: Of tensor operations on a CPU while it acts: the last bits depend on their number;
            None: as many as torch has been told.
        frames: Compresses the images of its states; None: they have none.
    """

    def __init__(
        self,
        policy: LatentPlanPolicy,
        seed: int = 0,
        threads: int | None = None,
        frames: Frames | None = None,
    ) -> None:
        self._policy, self._seed, self._threads, self._frames = policy, seed, threads, frames
        self._plan: Plan | None = None
        self._restart: Array | None = None

    def act(self, observations: Array, goals: Array | None = None) -> Array:
        """Actions of one step; see `Policy.act`."""
        policy, plan = self._policy, self._plan
        environments = None if plan is None else len(plan.latents)
        states = observed(observations, policy.decoder.dimensions.state, environments)
        if policy.goal_dim:
            goals = pursued(goals, len(states), policy.goal_dim)
        with torch_threads(self._threads):
            actions, self._plan = policy.act(states, goals, plan, self._restart, self._seed)
        self._restart = None
        return actions

    def encode(self, frames: Array) -> Array:
        """What stands for images in the observations that `act` takes.

        Args:
            frames: Of E environments, shape (E, H, W, C), or (E, C, H, W), uint8.

        Returns:
            Shape (E, Z), float32.

        Raises:
            ValueError: They are of another size than those that the policy learned from, or the
                policy learned from none.
        """
        if self._frames is None:
            raise ValueError("frames: the policy learned from observations without images")
        with torch_threads(self._threads):
            return self._frames.encode(frames)

    def reset(self, mask: Array | None = None) -> None:
        """Drops plans; see `Policy.reset`."""
        if mask is None:
            self._plan = self._restart = None
        elif self._plan is not None:
            chosen = masked(mask, len(self._plan.latents))
            self._restart = chosen if self._restart is None else self._restart | chosen
