"""Rolls out a policy in vectorised environments, every episode from its own seed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from common.data.flat_environment import GOAL, SUCCESS
from ldcq.policy import Policy

EnvFactory = Callable[[], "gymnasium.Env[Any, Any]"]
Observe = Callable[[Any], "Array"]
"""Makes states (E, S) of the observations of E environments."""
Array = NDArray[Any]


class SpaceMismatchError(ValueError):
    """The environment's spaces are not those that the models were trained with."""


MakeEnvironments = Callable[[EnvFactory, int, Callable[[], object]], "VectorEnv[Any, Any, Any]"]
"""Makes so many environments without autoreset, side by side, and calls the last argument
meanwhile; what that raises ends it."""


@dataclass(frozen=True)
class Episode:
    """One finished episode of T steps.

    Attributes:
        index: Its number, from 0; its seed is the rollout's plus this.
        rewards: Shape (T,), float32.
        positions: Where the agent was, shape (T + 1, 2), float32; None for tasks without a layout.
        success: Whether `info` said so after some step; None where it says nothing.
    """

    index: int
    rewards: Array
    positions: Array | None
    success: bool | None = None


@dataclass
class _Slot:
    """What one environment is playing: `index` is None once its share of the episodes is done."""

    index: int | None
    rewards: list[float] = field(default_factory=list)
    positions: list[Array] = field(default_factory=list)
    success: bool | None = None


def one_process(
    make_env: EnvFactory, count: int, waiting: Callable[[], object] = lambda: None
) -> VectorEnv[Any, Any, Any]:
    """Environments that are stepped in this process, one after the other.

    Args:
        make_env: Makes one.
        count: How many.
        waiting: Called before each is made.
    """

    def make() -> gymnasium.Env[Any, Any]:
        waiting()
        return make_env()

    return SyncVectorEnv([make] * count, autoreset_mode=AutoresetMode.DISABLED)


def check_spaces(
    env: gymnasium.Env[Any, Any],
    state_dim: int,
    action_dim: int,
    actions: int,
    goal_dim: int = 0,
    observe: Observe | None = None,
) -> None:
    """Compares an environment with what a model expects, before anything is rolled out.

    Args:
        env: The environment; it may be reset.
        state_dim: S of the model.
        action_dim: A of the model (1 where actions are discrete).
        actions: How many discrete actions the model knows, 0 for continuous ones.
        goal_dim: G of a model that pursues goals, else 0.
        observe: What makes states of observations that are none; None: they are states.

    Raises:
        SpaceMismatchError: They differ; the message names the space, what it is and what the model
            expects.
    """
    observation, action = env.observation_space, env.action_space
    goal = env.reset(seed=0)[1].get(GOAL, np.zeros(0)) if goal_dim else np.zeros(0)
    shape = observation.shape
    if observe is not None:
        batch = gymnasium.vector.utils.batch_space(observation, 1)
        shape = observe(batch.sample())[0].shape
    if shape != (state_dim,):
        raise SpaceMismatchError(
            f"observation space: the environment has {observation}, the models expect a flat Box "
            f"of {state_dim}; check data.observation_keys and evaluation.environment"
        )
    if actions:
        matches = isinstance(action, gymnasium.spaces.Discrete) and int(action.n) == actions
        expected = f"Discrete({actions})"
    else:
        matches = isinstance(action, gymnasium.spaces.Box) and np.prod(action.shape) == action_dim
        expected = f"a Box of {action_dim}"
    if not matches:
        raise SpaceMismatchError(
            f"action space: the environment has {action}, the models expect {expected}; "
            f"check evaluation.environment"
        )
    if len(goal) != goal_dim:
        given = f"goals of {len(goal)} entries" if len(goal) else "no goals (no `desired_goal`)"
        raise SpaceMismatchError(
            f"goals: the environment has {given}, the models expect {goal_dim} entries; check "
            f"data.goal_indices and evaluation.environment"
        )


def rollout(
    make_env: EnvFactory,
    policy: Policy,
    *,
    episodes: int,
    environments: int,
    seed: int,
    max_episode_steps: int,
    position_indices: Sequence[int] | None = None,
    on_step: Callable[[int], object] = lambda _: None,
    observe: Observe | None = None,
    make_environments: MakeEnvironments = one_process,
) -> Generator[Episode, None, None]:
    """Plays episodes and yields each when it ends.

    Environment i plays the episodes i, i + E, i + 2 E, ... of `environments` E, and episode k
    starts from seed `seed + k`: with a policy that treats every state alone, the episodes are the
    same for every E.

    Args:
        make_env: Makes one environment with a flat observation, or one that `observe` takes.
        policy: Chooses the actions.
        episodes: How many to play.
        environments: The most to step side by side.
        seed: Seed of episode 0.
        max_episode_steps: Ends an episode that the environment itself has not ended by then.
        position_indices: Observation entries that are the position; None records none.
        on_step: Told before every step how many environments make it, and 0 while environments are
            made: making many takes seconds. What it raises ends the rollout.
        observe: Makes states of the environments' observations; None: they are states.
        make_environments: Makes them of `make_env`, in this process or in others.
    """
    seen = observe or (lambda observations: observations)
    width = min(environments, episodes)
    # Autoreset is off: which episode a slot plays next, and from which seed, is decided here.
    envs = make_environments(make_env, width, lambda: on_step(0))
    try:
        slots = [_Slot(index) for index in range(width)]
        seeds: Any = [seed + index for index in range(width)]  # Gymnasium's type lacks lists
        observations, info = envs.reset(seed=seeds)
        states = seen(observations)
        goals = _goals(None, info)
        policy.reset()
        _remember(slots, states, position_indices)
        while any(slot.index is not None for slot in slots):
            on_step(width)
            actions = _for_environment(policy.act(states, goals), envs.single_action_space)
            observations, rewards, terminations, truncations, info = envs.step(actions)
            states = seen(observations)
            goals = _goals(goals, info)
            ended = terminations | truncations
            _remember(slots, states, position_indices, rewards)
            for place in np.flatnonzero(info.get(f"_{SUCCESS}", ())):
                slots[place].success = bool(slots[place].success or info[SUCCESS][place])
            ended |= [len(slot.rewards) >= max_episode_steps for slot in slots]
            for place in np.flatnonzero(ended):
                if slots[place].index is not None:
                    yield _finish(slots[place])
                slots[place] = _Slot(_next(slots[place].index, width, episodes))
            if ended.any():
                policy.reset(ended)
                # A slot without episodes left is reset as well (its steps are ignored):
                # environments step together.
                seeds = [seed + (slot.index or 0) for slot in slots]
                observations, info = envs.reset(seed=seeds, options={"reset_mask": ended})
                states = seen(observations)
                goals = _goals(goals, info)
                begun = [slot for slot, fresh in zip(slots, ended, strict=True) if fresh]
                _remember(begun, states[ended], position_indices)
    finally:
        envs.close()


def _goals(before: Array | None, info: dict[str, Any]) -> Array | None:
    """The goals (E, G) after a reset or step, of which only some environments may have told."""
    if GOAL not in info:
        return before
    told = info[f"_{GOAL}"]
    goals: Array = info[GOAL].copy() if before is None else before.copy()
    goals[told] = info[GOAL][told]
    return goals


def _next(index: int | None, width: int, episodes: int) -> int | None:
    following = None if index is None else index + width
    return following if following is not None and following < episodes else None


def _remember(
    slots: Sequence[_Slot],
    states: Array,
    position_indices: Sequence[int] | None,
    rewards: Array | None = None,
) -> None:
    for place, slot in enumerate(slots):
        if rewards is not None:
            slot.rewards.append(float(rewards[place]))
        if position_indices is not None:
            slot.positions.append(states[place, list(position_indices)].astype(np.float32))


def _finish(slot: _Slot) -> Episode:
    assert slot.index is not None
    positions = np.stack(slot.positions) if slot.positions else None
    return Episode(slot.index, np.array(slot.rewards, dtype=np.float32), positions, slot.success)


def _for_environment(actions: Array, space: gymnasium.Space[Any]) -> Array:
    """Actions as the environment takes them: indices (E,), or arrays inside the Box."""
    if isinstance(space, gymnasium.spaces.Box):
        shaped = actions.reshape(len(actions), *space.shape)
        return np.clip(shaped, space.low, space.high).astype(space.dtype)
    return actions.reshape(len(actions)).astype(np.int64)
