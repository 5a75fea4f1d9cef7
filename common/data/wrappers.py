"""Wrappers for `evaluation.environment.wrappers`."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np


class CentredGoal(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One of gymnasium-robotics' mazes (PointMaze, AntMaze) whose goal is the centre of its cell.

    By itself a maze moves the goal up to a quarter of a cell off the centre in every episode: 1 m
    in AntMaze, where a goal is reached within 0.45 m. Where the map has one goal cell (`maze_map`
    with one `g`), the goal is then the same in all episodes.
    """

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        task: Any = self.unwrapped
        task.goal = task.maze.cell_rowcol_to_xy(task.maze.cell_xy_to_rowcol(task.goal))
        task.update_target_site_pos()
        reached = task.compute_reward(observation["achieved_goal"], task.goal, {}) == 1
        info = {**info, "success": bool(reached)}
        return {**observation, "desired_goal": np.array(task.goal)}, info
