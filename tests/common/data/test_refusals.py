"""Data and environments that do not fit: rewards of other goals than the evaluated one (seen,
refused, computed anew), goals that differ, no success.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from pydantic import JsonValue

from common.data import behaviour_episodes, check_rewards, load_episodes, load_task
from common.data.environments import POINT_MAZE, RANDOM_WALK, recorded_spec
from common.data.flat_environment import FlatEnvironment
from common.data.flattening import flattening
from common.data.minari_writing import EpisodeArrays, Recording, write_minari
from common.data.pointmaze_env import FixedGoalPointMaze
from common.data.refusals import OtherGoalsError, check_one_goal, check_success
from common.data.task import EnvironmentFactory
from ldcq.config import Config, EnvironmentConfig, load, override
from ldcq.data.episodes import DataError
from tests.common.data.samples import UMAZE

EVALUATED = (-1.0, 1.0)
"""The goal of the evaluation environment, the U-maze's."""
NAME = "D4RL/pointmaze/umaze-v2"
RECORDED = {"data.reward": {"kind": "recorded"}}  # also where they are of another goal
PRIOR = {"evaluation.methods": {"prior": {"policy": "prior"}}}
ONE_GOAL: list[JsonValue] = [
    [1, 1, 1, 1, 1],
    [1, "g", 0, 0, 1],
    [1, 1, 1, 0, 1],
    [1, "r", "r", 0, 1],
    [1] * 5,
]
CENTRED = "common.data.wrappers:CentredGoal"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def config() -> Config:
    return Config(data=UMAZE)


def _flat(environment: gymnasium.Env[Any, Any]) -> FlatEnvironment:
    return FlatEnvironment(environment, flattening(environment.observation_space, None, "it"))


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


def test_goals_that_differ_are_refused_where_a_critic_cannot_see_them(
    config: Config, umaze_store: Path
) -> None:
    random = override(config, {"evaluation.environment": "PointMaze_UMaze-v3", **RECORDED})
    with pytest.raises(DataError) as error:
        load_task(random, umaze_store)
    for part in ("goals of PointMaze_UMaze-v3 differ", "methods.ldcq", "maze_map with one 'g'"):
        assert part in str(error.value)
    load_task(override(random, PRIOR), umaze_store)  # what imitates the data values no goal
    one = {"id": "PointMaze_UMaze-v3", "kwargs": {"maze_map": ONE_GOAL}, "wrappers": [CENTRED]}
    task = load_task(override(config, {"evaluation.environment": one}), umaze_store)
    assert task.layout is not None
    np.testing.assert_array_equal(task.layout.goal, [-1, 1])
    seen = {"data.observation_keys": ["observation", "desired_goal"]}
    load_task(override(random, seen), umaze_store)


def test_goals_are_one_where_reaching_the_centre_reaches_all() -> None:
    """PointMaze moves its goal by at most 0.25 m an axis, AntMaze by 1 m; both are content with
    0.45 m.
    """
    near = _flat(gymnasium.make("PointMaze_UMaze-v3", maze_map=ONE_GOAL))
    check_one_goal(near, "near", "it has one goal")
    check_one_goal(near, "near", "it has one goal", expected=[-1.0, 1.0])
    for other in ([1.0, 1.0], [1.0]):
        with pytest.raises(DataError, match=r"near is .*, but it has one goal, .*the same"):
            check_one_goal(near, "near", "it has one goal", expected=other)
    far = gymnasium.make("AntMaze_UMaze-v5", maze_map=ONE_GOAL)
    with pytest.raises(DataError, match="the goals of far differ between episodes"):
        check_one_goal(_flat(far), "far", "it has one goal")
    centred = EnvironmentConfig(
        id="AntMaze_UMaze-v5", kwargs={"maze_map": ONE_GOAL}, wrappers=(CENTRED,)
    )
    made = EnvironmentFactory(None, centred, None)()
    check_one_goal(made, "centred", "it has one goal", expected=[-4.0, 4.0])
    check_one_goal(_flat(gymnasium.make(RANDOM_WALK)), "without goals", "it has one goal")


def test_an_environment_without_success_is_refused_where_that_is_the_score(
    config: Config, umaze_store: Path
) -> None:
    load_task(override(config, {"evaluation.score": "success"}), umaze_store)
    with pytest.raises(DataError) as error:
        check_success(_flat(gymnasium.make(RANDOM_WALK)), RANDOM_WALK)
    expected = "evaluation.score: got 'success', but the info of ldcq/RandomWalk-v0 has none"
    assert expected in str(error.value)
