"""The real FrankaKitchen, as D4RL and as Minari have it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import (
    OBS_ELEMENT_GOALS,
    OBS_ELEMENT_INDICES,
)

from common.data.environments import FRANKA_KITCHEN
from common.data.flat_environment import FlatEnvironment, make_registered
from common.data.flattening import flattening
from common.data.kitchen import TASKS
from ldcq.data.episodes import DataError
from services.actor.rollout import rollout


class Still:
    """Does nothing."""

    def act(self, observations: Any, goals: Any = None) -> Any:  # noqa: ARG002
        return np.zeros((len(observations), 9))

    def reset(self, mask: Any = None) -> None:
        pass


def _fulfil(environment: gymnasium.Env[Any, Any], subtask: str) -> Any:
    """Puts its objects where they belong and steps."""
    task: Any = environment.unwrapped
    task.data.qpos[OBS_ELEMENT_INDICES[subtask]] = OBS_ELEMENT_GOALS[subtask]
    return environment.step(np.zeros(9))


@pytest.mark.parametrize("tasks", ["partial", "mixed"])
def test_every_subtask_counts_once_and_all_of_them_end_the_episode(tasks: str) -> None:
    environment = make_registered(FRANKA_KITCHEN, None, tasks=tasks)
    environment.reset(seed=0)
    done, rewards = [], []
    for subtask in TASKS[tasks]:
        _, reward, terminated, _, info = _fulfil(environment, subtask)
        rewards.append(reward)
        done.append((terminated, info["success"]))
        if not terminated:
            assert environment.step(np.zeros(9))[1] == 0  # what is done is not counted again
    assert rewards == [1.0] * 4
    assert done == [(False, False)] * 3 + [(True, True)]
    _, info = environment.reset(seed=1)
    assert len(info["tasks_to_complete"]) == 4


def test_observations_are_those_of_d4rls_files() -> None:
    d4rl = make_registered(FRANKA_KITCHEN, None, tasks="mixed")
    minari = make_registered(FRANKA_KITCHEN, None, tasks="mixed", observations="minari")
    state, _ = d4rl.reset(seed=3)
    same, _ = minari.reset(seed=3)
    assert (state.shape, d4rl.observation_space.shape) == ((60,), (60,))
    assert same["observation"].shape == (59,)
    np.testing.assert_array_equal(state[:9], same["observation"][:9])
    np.testing.assert_array_equal(state[9:30], same["observation"][18:39])
    task: Any = d4rl.unwrapped
    np.testing.assert_allclose(state[9:30], task.data.qpos[9:], atol=1e-3)
    goal = np.zeros(30)
    for subtask in TASKS["mixed"]:
        goal[OBS_ELEMENT_INDICES[subtask]] = OBS_ELEMENT_GOALS[subtask]
    np.testing.assert_array_equal(state[30:], goal)
    assert set(same["desired_goal"]) == set(TASKS["mixed"])


def test_a_rollout_of_a_few_steps() -> None:
    def make() -> FlatEnvironment:
        raw = make_registered(FRANKA_KITCHEN, None, max_episode_steps=5)
        return FlatEnvironment(raw, flattening(raw.observation_space, None, "kitchen"))

    played = list(rollout(make, Still(), episodes=3, environments=2, seed=0, max_episode_steps=5))
    assert [len(episode.rewards) for episode in played] == [5, 5, 5]
    assert [episode.success for episode in played] == [False] * 3


def test_gymnasium_roboticss_own_can_be_made_with_this_mujoco() -> None:
    """By itself it asserts in `get_joint_qpos`, after MuJoCo 3.10."""
    environment = make_registered("FrankaKitchen-v1", None, tasks_to_complete=["kettle"])
    observation, _ = environment.reset(seed=0)
    assert observation["observation"].shape == (59,)
    environment.step(environment.action_space.sample())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": "full"}, "tasks is 'full', expected one of complete, partial, mixed"),
        ({"tasks": ["fridge"]}, "fridge"),
        ({"observations": "rlds"}, "observations is 'rlds', expected 'd4rl' or 'minari'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=r"evaluation\.environment: 'ldcq/FrankaKi") as error:
        make_registered(FRANKA_KITCHEN, None, **settings)
    assert message in str(error.value)
