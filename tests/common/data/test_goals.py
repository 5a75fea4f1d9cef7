"""Rewards of other goals than the evaluated one: seen, refused, and computed anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from common.data import behaviour_episodes, check_rewards, load_episodes, load_task
from common.data.environments import POINT_MAZE, recorded_spec
from common.data.flat_environment import GOAL, FlatEnvironment
from common.data.flattening import flattening
from common.data.goals import OtherGoalsError
from common.data.minari_writing import EpisodeArrays, Recording, write_minari
from common.data.pointmaze_env import FixedGoalPointMaze
from ldcq.config import Config, load, override
from ldcq.data.episodes import DataError
from tests.common.data.samples import UMAZE

EVALUATED = (-1.0, 1.0)
"""The goal of the evaluation environment, the U-maze's."""
NAME = "D4RL/pointmaze/umaze-v2"


def write(root: Path, *goals: tuple[float, float], steps: int = 40) -> Config:
    """As Minari's pointmaze: each episode goes to a goal of its own, from the middle of the maze,
    and is rewarded there.
    """

    def episodes() -> Iterator[EpisodeArrays]:
        for goal in goals:
            way = np.linspace([1.0, 1.0], goal, steps + 1)
            states = np.concatenate([way, np.zeros_like(way)], axis=1)
            last = np.arange(steps) == steps - 1
            yield EpisodeArrays(
                observations={
                    "observation": states,
                    "achieved_goal": way,
                    "desired_goal": np.tile(goal, (steps + 1, 1)),
                },
                actions=np.zeros((steps, 2), np.float32),
                rewards=last.astype(np.float64),
                terminations=np.zeros(steps, np.bool_),
                truncations=last,
            )

    spec = recorded_spec(POINT_MAZE, 300, maze="umaze")
    recording = Recording(episodes(), FixedGoalPointMaze("umaze"), spec, {})
    assert write_minari(root / "datasets", NAME, recording)
    return override(load("paper"), {"data.dataset": NAME, "data.observation_keys": ["observation"]})


def test_data_of_the_evaluated_goal_are_taken_as_they_are(tmp_path: Path) -> None:
    load_task(write(tmp_path, EVALUATED, EVALUATED), tmp_path)


def test_rewards_of_many_goals_are_refused_with_the_setting_that_helps(tmp_path: Path) -> None:
    config = write(tmp_path, EVALUATED, (1.0, -1.0), (0.0, 1.0))
    with pytest.raises(OtherGoalsError) as error:
        load_task(config, tmp_path)
    message = str(error.value)
    assert f"the rewards of {NAME} belong to the goals [-1.0, 1.0], [0.0, 1.0], [1.0, -1.0]" in (
        message
    )
    assert "the evaluated goal is [-1.0, 1.0]" in message
    settings = re.findall(r"data\.\w+=(?:\{.*?\}|\[.*?\])", message)
    assert settings[:2] == [
        "data.goal_indices=[0, 1]",
        "data.reward={kind: sparse, goal: [-1.0, 1.0], threshold: 0.5}",
    ]
    with pytest.raises(OtherGoalsError):
        check_rewards(config, tmp_path)
    # What the message says is taken as it stands.
    followed = load(
        "paper", [f"data.dataset={NAME}", "data.observation_keys=[observation]", *settings[:2]]
    )
    load_task(followed, tmp_path)
    check_rewards(followed, tmp_path)
    load_task(override(config, {"data.reward": {"kind": "recorded"}}), tmp_path)


def test_rewards_of_one_other_goal_are_refused_too(tmp_path: Path) -> None:
    config = write(tmp_path, (1.0, -1.0))
    with pytest.raises(OtherGoalsError, match=r"belong to the goal \[1.0, -1.0\], and the eval"):
        load_task(config, tmp_path)


def test_many_goals_are_listed_in_part(tmp_path: Path) -> None:
    config = write(tmp_path, *((x, 1.0) for x in np.linspace(-1, 1, 9)))
    with pytest.raises(OtherGoalsError, match=r"\[0.0, 1.0\] and 4 more, and the evaluated"):
        load_task(config, tmp_path)


def test_a_trainer_leaves_other_mistakes_of_the_task_to_the_actor(tmp_path: Path) -> None:
    config = write(tmp_path, (1.0, -1.0))
    check_rewards(override(config, {"evaluation.environment": "NoSuchTask-v0"}), tmp_path)
    check_rewards(override(config, {"data.dataset": "ours/none-v0"}), tmp_path)


def test_the_evaluated_goal_is_rewarded_and_the_data_scored_by_it(tmp_path: Path) -> None:
    """The second episode passes the goal of the evaluation on its way; its own is elsewhere."""
    config = write(tmp_path, (1.0, -1.0), (-2.0, 1.0))
    recorded = load_episodes(config.data, tmp_path)
    reward = {"kind": "sparse", "goal": [*EVALUATED], "threshold": 0.25}
    own = override(config, {"data.goal_indices": [0, 1], "data.reward": reward})
    episodes = load_episodes(own.data, tmp_path)
    way = episodes.observations_of(1)[1:, 0]
    np.testing.assert_array_equal(episodes.rewards_of(1), np.abs(way + 1) <= 0.25)
    assert not episodes.rewards_of(0).any()
    assert episodes.fingerprint == recorded.fingerprint
    shifted = override(own, {"data.reward.shift": -1.0, "data.reward.scale": 2.0})
    assert set(load_episodes(shifted.data, tmp_path).rewards) == {-1, 1}
    episodes = load_episodes(shifted.data.scored, tmp_path)
    scored = [float(part.sum()) for part in behaviour_episodes(episodes, 300)]
    assert scored == [0.0, float(np.count_nonzero(np.abs(way + 1) <= 0.25))]
    ending = override(own, {"data.reward.terminates": True})
    assert load_episodes(ending.data, tmp_path).count == 3
    far = override(own, {"data.reward.goal": [9, 9]})
    with pytest.raises(DataError, match=r"80 steps .* none comes to the goal \[9.0, 9.0\]"):
        load_episodes(far.data, tmp_path)


def test_generated_data_have_the_rewards_of_the_evaluated_goal(umaze_store: Path) -> None:
    """The generator's own, found again in its states."""
    recorded = load_episodes(UMAZE, umaze_store)
    reward = {"kind": "sparse", "goal": [*EVALUATED], "threshold": 0.5}
    changed = override(Config(data=UMAZE), {"data.goal_indices": [0, 1], "data.reward": reward})
    found = load_episodes(changed.data, umaze_store)
    np.testing.assert_array_equal(found.rewards, recorded.rewards)
    load_task(Config(data=UMAZE), umaze_store)


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
    np.testing.assert_array_equal(info[GOAL], EVALUATED)
