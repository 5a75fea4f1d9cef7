"""D4RL's maze2d task in PointMaze, in its mazes or your own: one fixed goal, random starts, reward
within 0.5 m.

`common.data.environments` registers it. Recorded data name this class: it stays where it is.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.utils import EzPickle

from common.data.maze import POSITION_NOISE, START_SPEED, Maze, find_maze, goal_reward

# Its import prints a notice about other environments' versions, in every process that makes a maze.
with contextlib.redirect_stderr(io.StringIO()):
    from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv

Observation = dict[str, npt.NDArray[np.float64]]


def _map(maze: Maze) -> list[list[int | str]]:
    """As gymnasium-robotics writes mazes: 1 is a wall, r a start, g the goal, c both."""
    cells: list[list[int | str]] = [[int(wall) for wall in row] for row in maze.walls]
    for row, column in maze.start_cells:
        cells[row][column] = "r"
    row, column = maze.goal_cell
    cells[row][column] = "c" if maze.goal_cell in maze.start_cells else "g"
    return cells


class FixedGoalPointMaze(PointMazeEnv):  # type: ignore[misc]  # the package is not typed
    """PointMaze as D4RL's maze2d evaluates.

    The goal is the centre of the goal cell and never moves. An episode starts in a start cell
    (D4RL's: any free one) drawn uniformly, up to 0.1 m off its centre, at a velocity drawn from
    N(0, 0.1). The reward is 1 within 0.5 m of the goal, else 0; nothing terminates. The physics are
    PointMaze's own.
    """

    metadata: ClassVar[dict[str, Any]] = {
        **PointMazeEnv.metadata,
        "first_hit": True,  # a continuing sparse task: the first step with reward has a score
    }

    def __init__(self, maze: str | Sequence[str] = "large", render_mode: str | None = None) -> None:
        """Builds the simulation of D4RL's maze of that name, or of a map."""
        self.layout = find_maze(maze)
        super().__init__(
            maze_map=_map(self.layout),
            render_mode=render_mode,
            reward_type="sparse",
            continuing_task=True,
            reset_target=False,
        )
        Path(self.tmp_xml_file_path).unlink(missing_ok=True)  # read already; PointMaze leaves it
        EzPickle.__init__(self, maze, render_mode)
        self.goal = self.layout.centre(self.layout.goal_cell)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode, in `options["reset_cell"]` (row, column) or a random cell."""
        gymnasium.Env.reset(self, seed=seed)  # seeds only; PointMaze's would draw a goal as well
        self.point_env.reset(seed=seed)
        random = self.np_random
        cells = self.layout.start_cells
        drawn = cells[int(random.integers(len(cells)))]
        row, column = (options or {}).get("reset_cell", drawn)
        noise = random.uniform(-POSITION_NOISE, POSITION_NOISE, 2)
        position = self.layout.centre((int(row), int(column))) + noise
        self.point_env.set_state(position, START_SPEED * random.standard_normal(2))
        self.goal = self.layout.centre(self.layout.goal_cell)
        self.update_target_site_pos()
        observation: Observation = self._get_obs(self.point_env._get_obs()[0])
        return observation, {"success": self._reached(observation["achieved_goal"])}

    def step(
        self, action: npt.NDArray[np.floating]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One step of 0.01 s; `info["success"]` says whether the goal is within 0.5 m."""
        point_observation, _, _, _, info = self.point_env.step(action)
        observation: Observation = self._get_obs(point_observation)
        reached = self._reached(observation["achieved_goal"])
        return observation, float(reached), False, False, {**info, "success": reached}

    def compute_reward(
        self,
        achieved_goal: npt.NDArray[np.float64],
        desired_goal: npt.NDArray[np.float64],
        info: object,  # noqa: ARG002  (GoalEnv's signature)
    ) -> npt.NDArray[np.float64]:
        """1 within 0.5 m, else 0; of the shape of the leading axes."""
        return goal_reward(achieved_goal, desired_goal)

    def _reached(self, position: npt.NDArray[np.float64]) -> bool:
        return bool(self.compute_reward(position, self.goal, None))
