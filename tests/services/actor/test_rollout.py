"""Rollouts of deterministic agents in a toy environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from common.data.flat_environment import FlatEnvironment
from common.data.flattening import flattening
from services.actor.rollout import Episode, SpaceMismatchError, check_spaces, rollout

LIMIT = 23


class Drift(gymnasium.Env[Any, Any]):
    """A point that drifts by noise of its own; reward where it is positive, ends beyond 1.5."""

    def __init__(self, ends: bool = True) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.ends = ends

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.position = self.np_random.normal(size=3).astype(np.float32)
        return self.position.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.position[:2] += action + self.np_random.normal(0, 0.5, 2)
        reward = float(self.position[0] > 0)
        return self.position.copy(), reward, self.ends and bool(self.position[0] > 1.5), False, {}


class Agent:
    """Acts on each state alone; counts the beginnings it is told of before it acts."""

    def __init__(self) -> None:
        self.restarts, self._begun = 0, 0.0

    def act(self, observations: Any, goals: Any = None) -> Any:
        assert goals is None
        self.restarts += round(self._begun * len(observations))
        self._begun = 0.0
        return np.sin(3 * observations[:, :2]) * 1.5  # partly outside the action space

    def reset(self, mask: Any = None) -> None:
        self._begun = 1.0 if mask is None else mask.mean()


class Says(gymnasium.Wrapper[Any, Any, Any, Any]):
    """`info["success"]` of the step into the positive, and of no step where it stays negative."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, ended, cut, info = self.env.step(action)
        said = {"success": bool(reward)} if self.np_random.random() < 0.8 or reward else {}
        return observation, reward, ended, cut, {**info, **said}


def test_success_is_what_info_said_at_some_step() -> None:
    played = list(
        rollout(
            lambda: Says(Drift()), Agent(), episodes=9, environments=4, seed=5,
            max_episode_steps=LIMIT,
        )
    )  # fmt: skip
    expected = [bool((episode.rewards > 0).any()) for episode in played]
    assert [episode.success for episode in played] == expected
    assert {True, False} == set(expected)
    assert {episode.success for episode in _play(3)} == {None}


def _play(environments: int, episodes: int = 7, seed: int = 5, ends: bool = True) -> list[Episode]:
    played: Iterator[Episode] = rollout(
        lambda: Drift(ends),
        Agent(),
        episodes=episodes,
        environments=environments,
        seed=seed,
        max_episode_steps=LIMIT,
        position_indices=(0, 2),
    )
    return sorted(played, key=lambda episode: episode.index)


def _single(seed: int) -> tuple[list[float], list[Any]]:
    """One episode by a plain loop."""
    env, agent = Drift(), Agent()
    state, _ = env.reset(seed=seed)
    rewards, positions = [], [state[[0, 2]]]
    for _ in range(LIMIT):
        action = np.clip(agent.act(state[None])[0], -1, 1).astype(np.float32)
        state, reward, ended, _, _ = env.step(action)
        rewards.append(reward)
        positions.append(state[[0, 2]])
        if ended:
            break
    return rewards, positions


@pytest.mark.parametrize("environments", [1, 3, 7, 50])
def test_episodes_equal_a_plain_loop_for_any_number_of_environments(environments: int) -> None:
    played = _play(environments)
    assert [episode.index for episode in played] == list(range(7))
    lengths = set()
    for episode in played:
        rewards, positions = _single(5 + episode.index)
        np.testing.assert_array_equal(episode.rewards, rewards)
        assert episode.positions is not None
        np.testing.assert_array_equal(episode.positions, positions)
        lengths.add(len(rewards))
    assert len(lengths) > 1, "some episodes end early, so that environments fall out of step"


def test_another_seed_gives_other_episodes() -> None:
    first, second = _play(3, seed=5), _play(3, seed=50)
    assert not np.array_equal(first[0].positions[0], second[0].positions[0])  # type: ignore[index]


def test_the_time_limit_ends_an_episode_that_the_environment_does_not() -> None:
    assert {len(episode.rewards) for episode in _play(2, ends=False)} == {LIMIT}


def test_an_agent_is_told_of_every_beginning() -> None:
    agent = Agent()
    episodes = list(
        rollout(
            lambda: Drift(ends=False),
            agent,
            episodes=6,
            environments=3,
            seed=0,
            max_episode_steps=LIMIT,
        )
    )
    assert agent.restarts == len(episodes) == 6
    assert all(episode.positions is None for episode in episodes)


class Chase(Drift):
    """Its goal is drawn anew at every reset, and moves with every step."""

    def __init__(self) -> None:
        super().__init__()
        flat = self.observation_space
        self.observation_space = gymnasium.spaces.Dict(
            {"observation": flat, "desired_goal": gymnasium.spaces.Box(-np.inf, np.inf, (2,))}
        )

    def _told(self) -> dict[str, Any]:
        return {"observation": self.position.copy(), "desired_goal": self.goal.copy()}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.goal = self.np_random.normal(size=2).astype(np.float32)
        return self._told(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = super().step(action)
        self.goal = self.goal + np.float32(0.25)
        return self._told(), reward, terminated, truncated, info


def _flat_chase() -> FlatEnvironment:
    env = Chase()
    return FlatEnvironment(env, flattening(env.observation_space, ["observation"], "chase"))


class GoalAgent:
    """Acts by its goal alone; keeps the goal it was told of in every state."""

    def __init__(self) -> None:
        self.seen: dict[bytes, Any] = {}

    def act(self, observations: Any, goals: Any = None) -> Any:
        for state, goal in zip(observations, goals, strict=True):
            self.seen[state.tobytes()] = goal.copy()
        return np.sin(goals)

    def reset(self, mask: Any = None) -> None:
        assert mask is None or mask.any()


@pytest.mark.parametrize("environments", [1, 3])
def test_an_agent_is_told_the_goal_of_every_environment_at_every_step(environments: int) -> None:
    agent = GoalAgent()
    arguments: Any = {"episodes": 5, "seed": 9, "max_episode_steps": LIMIT}
    played = list(rollout(_flat_chase, agent, environments=environments, **arguments))
    for episode in played:
        env = Chase()
        told, _ = env.reset(seed=9 + episode.index)
        for reward in episode.rewards:
            np.testing.assert_array_equal(
                agent.seen[told["observation"].tobytes()], told["desired_goal"]
            )
            action = np.sin(told["desired_goal"])
            told, expected, *_ = env.step(action)
            assert reward == expected
    assert len({len(episode.rewards) for episode in played}) > 1


def test_a_task_without_the_goals_that_a_model_pursues_is_refused() -> None:
    check_spaces(_flat_chase(), 3, 2, 0, goal_dim=2)
    with pytest.raises(SpaceMismatchError, match="goals of 2 entries, the models expect 3"):
        check_spaces(_flat_chase(), 3, 2, 0, goal_dim=3)
    with pytest.raises(SpaceMismatchError, match="goals: the environment has no goals"):
        check_spaces(Drift(), 3, 2, 0, goal_dim=2)


@pytest.mark.parametrize(
    ("state_dim", "action_dim", "actions", "message"),
    [
        (4, 2, 0, r"observation space: the environment has Box.*expect a flat Box of 4"),
        (3, 5, 0, r"action space: the environment has Box.*expect a Box of 5"),
        (3, 1, 4, r"action space: .*expect Discrete\(4\)"),
    ],
)
def test_spaces_that_do_not_match_are_refused(
    state_dim: int, action_dim: int, actions: int, message: str
) -> None:
    check_spaces(Drift(), 3, 2, 0)
    with pytest.raises(SpaceMismatchError, match=message):
        check_spaces(Drift(), state_dim, action_dim, actions)
