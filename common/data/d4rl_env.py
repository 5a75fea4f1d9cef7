"""D4RL's mazes along D4RL's own axes, for policies that were learned from D4RL's files.

gymnasium-robotics centres its mazes on the origin, and its ant has other gears and another time
step; these have the states of the files. Sources: D4RL's `pointmaze/maze_model.py` and
`locomotion/{maze_env,ant}.py`. `common.data.environments` registers both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt

from common.data.maze import find_maze, goal_reward

if TYPE_CHECKING:
    from common.data.pointmaze_env import FixedGoalPointMaze

Observation = dict[str, npt.NDArray[np.float64]]
Vector = npt.NDArray[np.float64]
OFF_CENTRE = 0.2
"""How far D4RL's maze2d has starts and goal beyond the centre of their cell, in rows and columns
(its point is at (1.2, 1.2) where its coordinates are 0)."""
ANT_CELL = 4.0
"""Side of a cell of AntMaze in metres."""
ANT_GOAL_OFFSET = 0.75
"""How far AntMaze's goal is beyond the centre of its cell in x and y: D4RL's mean."""
ANT_START_NOISE = 0.1
"""Half width of the uniform noise on the ant's start, in metres."""


@dataclass(frozen=True)
class _Map:
    """A map in the words of gymnasium-robotics: x grows with the column, y falls with the row."""

    maze_map: npt.NDArray[np.int64]
    maze_size_scaling: float
    x_map_center: float
    y_map_center: float
    unique_goal_locations: tuple[Vector, ...]


class _D4rlMaze(gymnasium.Env[Any, npt.NDArray[np.floating]]):
    """What both have: `observation`, `achieved_goal` and `desired_goal`, and a map."""

    maze: _Map

    def __init__(self, rest: int, goal: Vector) -> None:
        """`rest` numbers are observed beside the position where `achieved_goal` has it."""
        self.goal = goal
        sizes = {"observation": rest, "achieved_goal": 2, "desired_goal": 2}
        self.observation_space = gymnasium.spaces.Dict(
            {
                key: gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)
                for key, size in sizes.items()
            }
        )

    def _observed(self, observation: Vector, position: Vector) -> Observation:
        goals = {"achieved_goal": position.copy(), "desired_goal": self.goal.copy()}
        return {"observation": observation, **goals}

    def compute_reward(
        self,
        achieved_goal: Vector,
        desired_goal: Vector,
        info: object,  # noqa: ARG002  (that of gymnasium-robotics has it)
    ) -> npt.NDArray[np.float64]:
        """1 within 0.5 m, else 0; of the shape of the leading axes."""
        return goal_reward(achieved_goal, desired_goal)


class D4rlMaze2d(_D4rlMaze):
    """maze2d as the states of D4RL's files have it: row, column and their velocities.

    The simulation is PointMaze's, whose x is the column and whose y falls with the row.
    """

    def __init__(self, maze: str = "large", render_mode: str | None = None) -> None:
        """Builds D4RL's maze of that name."""
        from common.data.pointmaze_env import FixedGoalPointMaze

        layout = find_maze(maze)
        super().__init__(4, np.array(layout.goal_cell, np.float64))
        self._inner: FixedGoalPointMaze = FixedGoalPointMaze(maze, render_mode)
        self.metadata, self.render_mode = self._inner.metadata, render_mode
        self.action_space = self._inner.action_space
        rows, columns = layout.walls.shape
        self._origin = np.array([rows, columns]) / 2 - 0.5 - OFF_CENTRE
        self.maze = _Map(
            layout.walls.T[::-1].astype(np.int64),
            *(1.0, 0.5 + OFF_CENTRE, columns - 0.5 - OFF_CENTRE, (self.goal,)),
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode, in `options["reset_cell"]` (row, column) or a random cell."""
        super().reset(seed=seed)
        observation, _ = self._inner.reset(seed=seed, options=options)
        moved = observation["observation"] + OFF_CENTRE * np.array([1, -1, 0, 0])
        self._inner.point_env.set_state(moved[:2], moved[2:])
        state = self._d4rl(moved)
        reached = bool(self.compute_reward(state[:2], self.goal, None))
        return self._observed(state, state[:2]), {"success": reached}

    def step(
        self, action: npt.NDArray[np.floating]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One step of 0.01 s, with forces along rows and columns; nothing terminates."""
        along_column, along_row = action[1], action[0]
        observation, *_ = self._inner.step(np.array([along_column, -along_row]))
        state = self._d4rl(observation["observation"])
        reward = float(self.compute_reward(state[:2], self.goal, None))
        return self._observed(state, state[:2]), reward, False, False, {"success": reward > 0}

    def _d4rl(self, state: Vector) -> Vector:
        """x, y and their velocities to row, column and theirs, shape (4,)."""
        x, y, along_x, along_y = state
        row, column = self._origin + np.array([-y, x])
        return np.array([row, column, -along_y, along_x])

    def render(self) -> Any:
        """PointMaze's picture."""
        return self._inner.render()

    def close(self) -> None:
        """Closes the simulation."""
        self._inner.close()


class D4rlAntMaze(_D4rlMaze):
    """AntMaze as the states of D4RL's files have it: the ant starts at the origin, y grows with the
    row, and reaching the goal, in the farthest cell, ends the episode.

    The simulation is OGBench's, whose ant has D4RL's gears (30) and time step (0.1 s).
    """

    def __init__(self, maze: str = "large", render_mode: str | None = None) -> None:
        """Builds D4RL's maze of that name, medium or large."""
        settings: dict[str, Any] = {"render_mode": render_mode, "add_noise_to_goal": False}
        self._inner: Any = gymnasium.make(f"ogbench:antmaze-{maze}-v0", **settings).unwrapped
        layout = find_maze(maze)
        row, column = self._goal_cell = layout.goal_cell
        super().__init__(27, np.array([column - 1, row - 1]) * ANT_CELL + ANT_GOAL_OFFSET)
        self.metadata, self.render_mode = self._inner.metadata, render_mode
        self.action_space = self._inner.action_space
        self.maze = _Map(
            layout.walls[::-1].astype(np.int64),
            *(ANT_CELL, 1.5 * ANT_CELL, (len(layout.walls) - 1.5) * ANT_CELL, (self.goal,)),
        )

    def reset(
        self,
        *,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode in the first cell."""
        super().reset(seed=seed)
        task = {"init_ij": (1, 1), "goal_ij": self._goal_cell}
        self._inner.action_space.seed(seed)  # it settles by a few random steps
        self._inner.reset(seed=seed, options={"task_info": task})
        self._inner.set_goal(goal_xy=self.goal)
        self._inner.set_xy(self.np_random.uniform(-ANT_START_NOISE, ANT_START_NOISE, 2))
        return self._split(self._inner.get_ob()), {"success": False}

    def place(self, position: Vector, turn: float = 0.0) -> Observation:
        """Puts the ant there, in metres, shape (2,), as it stands but turned by so many radians."""
        import mujoco

        body, about_z = self._inner.data.qpos.copy(), [np.cos(turn / 2), 0, 0, np.sin(turn / 2)]
        body[:2] = position
        mujoco.mju_mulQuat(body[3:7], about_z, self._inner.data.qpos[3:7])
        self._inner.set_state(body, self._inner.data.qvel)
        return self._split(self._inner.get_ob())

    def step(
        self, action: npt.NDArray[np.floating]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One step of 0.1 s."""
        observation, *_ = self._inner.step(action)
        found = self._split(observation)
        reward = float(self.compute_reward(found["achieved_goal"], self.goal, None))
        return found, reward, reward > 0, False, {"success": reward > 0}

    def _split(self, state: Vector) -> Observation:
        return self._observed(state[2:], state[:2])

    def render(self) -> Any:
        """OGBench's picture."""
        return self._inner.render()

    def close(self) -> None:
        """Closes the simulation."""
        self._inner.close()
