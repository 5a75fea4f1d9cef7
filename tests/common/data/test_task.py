"""What a dataset is evaluated on, and what it scores itself."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from common.data import NoEnvironmentError, behaviour_episodes, load_task
from common.data.flat_environment import GOAL, FlatEnvironment
from common.data.flattening import flattening
from common.data.maze import MAZES
from common.data.pointmaze_env import FixedGoalPointMaze
from ldcq.config import Config, DataConfig, override
from ldcq.data.episodes import DataError
from services.actor.scores import normalise
from tests.common.data.samples import BOX, FLAT, UMAZE, episode, numbered_episodes, write


@pytest.fixture
def config() -> Config:
    return Config(data=UMAZE)


def test_generated_data_brings_its_task(config: Config, umaze_store: Path) -> None:
    task = load_task(config, umaze_store)
    assert task.reference_scores == (23.85, 161.86)
    assert (task.max_episode_steps, task.first_hit) == (300, True)
    assert (task.spaces.state_dim, task.spaces.action_dim) == (4, 2)
    np.testing.assert_allclose(
        normalise(np.array([23.85, 161.86]), task.reference_scores), [0, 100]
    )
    layout = task.layout
    assert layout is not None
    assert layout.extent == (-2.5, 2.5, -2.5, 2.5)
    assert layout.position_indices == (0, 1)
    np.testing.assert_array_equal(layout.goal, [-1.0, 1.0])
    assert layout.walls.sum() == 25 - 7


def test_environments_can_be_made_in_other_processes(config: Config, umaze_store: Path) -> None:
    factory = pickle.loads(pickle.dumps(load_task(config, umaze_store).make_env))  # noqa: S301
    vector = gymnasium.vector.AsyncVectorEnv([factory, factory])
    try:
        states, _ = vector.reset(seed=[4, 5])
        assert (states.shape, states.dtype) == ((2, 4), np.float32)
        alone, _ = factory().reset(seed=5)
        np.testing.assert_array_equal(states[1], alone)
        states, rewards, *_ = vector.step(np.zeros((2, 2), np.float32))
        assert rewards.shape == (2,)
    finally:
        vector.close()


def test_configuration_overrides_environment_and_scores(config: Config, umaze_store: Path) -> None:
    changed = override(
        config,
        {
            "evaluation.environment": "PointMaze_UMazeDense-v3",
            "evaluation.methods": {"prior": {"policy": "prior"}},  # critics need one goal
            "evaluation.reference_scores": [0.0, 50.0],
            "data.reward": {"kind": "recorded"},  # of another goal
        },
    )
    task = load_task(changed, umaze_store)
    assert (task.reference_scores, task.first_hit) == ((0.0, 50.0), False)
    assert normalise(np.array(25.0), task.reference_scores) == 50.0
    assert task.layout is not None
    assert task.layout.goal is None  # another in every episode
    np.testing.assert_array_equal(task.layout.walls, MAZES["umaze"].walls)
    sparse = override(changed, {"evaluation.environment": "PointMaze_UMaze-v3"})
    assert load_task(sparse, umaze_store).first_hit


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["desired_goal", "observation"], (2, 3)),
        (["achieved_goal"], (0, 1)),
        (["desired_goal"], None),
    ],
)
def test_the_position_is_found_in_the_state(
    keys: list[str], expected: tuple[int, int] | None, config: Config, umaze_store: Path
) -> None:
    layout = load_task(override(config, {"data.observation_keys": keys}), umaze_store).layout
    assert (layout and layout.position_indices) == expected


def test_data_that_record_no_environment(tmp_path: Path) -> None:
    write("ours/logged-v0", FLAT, BOX, episode(4))
    message = "evaluation.environment: not given, and ours/logged-v0 records none"
    with pytest.raises(NoEnvironmentError, match=message):
        load_task(Config(data=DataConfig(dataset="ours/logged-v0")), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"evaluation.environment": "Pendulum-v1", "data.observation_keys": None},
            "Pendulum-v1 has states of 3 dimensions and actions of 1 dimensions, "
            "but ldcq/umaze-v0 has states of 8 dimensions and actions of 2 dimensions",
        ),
        ({"evaluation.environment": "NoSuchTask-v0"}, "'NoSuchTask-v0' cannot be made"),
        ({"evaluation.environment": "NoSuchTask-v0"}, "or module:id of an environment of your own"),
        ({"data.dataset": "ours/none-v0"}, "no 'ours/none-v0' on this machine"),
    ],
)
def test_impossible_tasks_are_explained(
    changes: dict[str, object], message: str, config: Config, umaze_store: Path
) -> None:
    with pytest.raises(DataError) as error:
        load_task(override(config, changes), umaze_store)
    assert message in str(error.value)


class OddlyShaped(gymnasium.Env[Any, Any]):
    """Actions of shape (2, 1), observations of shape (2, 2), the action's sum as reward."""

    observation_space = spaces.Box(-9.0, 9.0, (2, 2), np.float64)
    action_space: spaces.Space[Any] = spaces.Box(-1.0, 1.0, (2, 1), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return np.arange(4.0).reshape(2, 2), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return np.full((2, 2), float(np.sum(action))), float(np.sum(action)), False, False, {}


class Switches(OddlyShaped):
    action_space = spaces.Discrete(3)


def test_environments_become_flat() -> None:
    raw = OddlyShaped()
    flat = FlatEnvironment(raw, flattening(raw.observation_space, None, "odd"))
    state, _ = flat.reset(seed=0)
    assert flat.observation_space.contains(state)
    assert state.tolist() == [0, 1, 2, 3]
    assert flat.action_space.shape == (2,)
    state, reward, *_ = flat.step(np.array([0.25, 0.5]))
    assert (state.tolist(), reward) == ([0.75] * 4, 0.75)
    switches = FlatEnvironment(Switches(), flattening(raw.observation_space, None, "odd"))
    assert switches.step(np.array([2]))[1] == switches.step(2)[1] == 2.0


class Kitchen(gymnasium.Env[Any, Any]):
    """Goals as FrankaKitchen has them: a part for each subtask."""

    goals = {  # noqa: RUF012
        "microwave": np.array([-0.75]),
        "bottom burner": np.array([-0.88, -0.01]),
    }
    parts = spaces.Dict(
        {name: spaces.Box(-9.0, 9.0, goal.shape, np.float64) for name, goal in goals.items()}
    )
    observation_space = spaces.Dict(
        {
            "observation": spaces.Box(-9.0, 9.0, (3,), np.float64),
            "achieved_goal": parts,
            "desired_goal": parts,
        }
    )
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), 0.0, False, False, {"tasks": action}

    def _seen(self) -> dict[str, Any]:
        return {"observation": np.zeros(3), "achieved_goal": self.goals, "desired_goal": self.goals}


def test_a_goal_of_several_parts_is_joined_by_their_names() -> None:
    flat = FlatEnvironment(Kitchen(), flattening(Kitchen.observation_space, ["observation"], "k"))
    _, info = flat.reset(seed=0)
    assert info[GOAL].dtype == np.float32
    np.testing.assert_allclose(info[GOAL], [-0.88, -0.01, -0.75], rtol=1e-6)
    *_, info = flat.step(np.zeros(2))
    assert info[GOAL].shape == (3,)
    assert info["tasks"].shape == (2,)
    # Goals that are one array stay as they are.
    maze = FixedGoalPointMaze("umaze")
    _, info = FlatEnvironment(maze, flattening(maze.observation_space, None, "m")).reset(seed=0)
    np.testing.assert_array_equal(info[GOAL], [-1.0, 1.0])


def test_behaviour_joins_what_continues(umaze_store: Path) -> None:
    from common.data import load_episodes

    episodes = load_episodes(UMAZE, umaze_store)
    stretches = behaviour_episodes(episodes, 300)
    assert [len(stretch) for stretch in stretches] == [300] * 10
    np.testing.assert_array_equal(np.concatenate(stretches), episodes.rewards)
    stretches = behaviour_episodes(episodes, 1100)
    assert [len(stretch) for stretch in stretches] == [1100, 1100]  # the rest is dropped


def test_behaviour_keeps_separate_episodes_apart() -> None:
    episodes = numbered_episodes([4, 9, 3], [True, False, False])
    stretches = behaviour_episodes(episodes, 5)
    assert [stretch.tolist() for stretch in stretches] == [
        [0, 1, 2, 3],
        [1000, 1001, 1002, 1003, 1004],
        [2000, 2001, 2002],
    ]
    whole = behaviour_episodes(numbered_episodes([7], [True]), 5)
    assert [len(stretch) for stretch in whole] == [5, 2]  # the end of an episode that ended is kept
