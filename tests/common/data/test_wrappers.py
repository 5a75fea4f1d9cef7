"""Wrappers that a configuration may name."""

from __future__ import annotations

import gymnasium
import gymnasium_robotics
import numpy as np

from common.data.wrappers import CentredGoal

gymnasium.register_envs(gymnasium_robotics)


def test_a_maze_has_its_goal_at_the_centre_of_its_cell() -> None:
    grid = [[1, 1, 1, 1, 1], [1, "g", 0, 0, 1], [1, 1, 1, 0, 1], [1, "r", "r", 0, 1], [1] * 5]
    environment = CentredGoal(gymnasium.make("PointMaze_UMaze-v3", maze_map=grid))
    starts = set()
    for seed in range(4):
        observation, info = environment.reset(seed=seed)
        np.testing.assert_array_equal(observation["desired_goal"], [-1, 1])
        following = environment.step(np.zeros(2, np.float32))[0]
        np.testing.assert_array_equal(following["desired_goal"], [-1, 1])
        assert info["success"] is False
        starts.add(tuple(observation["achieved_goal"]))
    assert len(starts) == 4  # they keep their noise
