"""PointMaze seen from above, drawn with NumPy: no display, no simulator's renderer."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from common.data.maze import GOAL_RADIUS, Maze
from ldcq.data.episodes import Pixels

GROUND, WALL, GOAL, AGENT = (235, 235, 235), (70, 70, 80), (90, 200, 130), (220, 50, 40)
AGENT_RADIUS = 0.3
"""Of the disc that is drawn, in metres; that of the ball is 0.1, half a pixel in large mazes."""
SHOWN = 480
"""Pixels a side of a picture for people."""


class MazePainter:
    """Draws positions in a maze; edges are smooth, so that they tell fractions of a pixel.

    Args:
        maze: Is drawn as large as a square of `size` pixels a side takes it.
        size: Of the picture, in pixels.
    """

    def __init__(self, maze: Maze, size: int) -> None:
        rows, columns = maze.walls.shape
        metres = max(rows, columns)
        offsets = (np.arange(size) + 0.5) / size * metres - metres / 2
        self._x, self._y, self._pixel = offsets, -offsets, metres / size
        ground = np.empty((size, size, 3))
        ground[:] = WALL
        row = np.floor(rows / 2 - self._y).astype(int)
        column = np.floor(self._x + columns / 2).astype(int)
        inside = ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < columns))
        free = ~maze.walls[row.clip(0, rows - 1)][:, column.clip(0, columns - 1)]
        ground[inside & free] = GROUND
        goal = self._disc(maze.centre(maze.goal_cell)[None], GOAL_RADIUS)[0]
        goal *= (inside & free)[..., None]
        self._ground = ground + goal * (GOAL - ground)

    def __call__(self, positions: npt.NDArray[np.floating[Any]]) -> Pixels:
        """Pictures (n, size, size, 3) of an agent at positions (n, 2), in metres."""
        agent = self._disc(np.asarray(positions), AGENT_RADIUS)
        images: Pixels = np.rint(self._ground + agent * (AGENT - self._ground)).astype(np.uint8)
        return images

    def _disc(
        self, centres: npt.NDArray[np.floating[Any]], radius: float
    ) -> npt.NDArray[np.float64]:
        """How much of every pixel discs cover, (n, size, size, 1), from 0 to 1."""
        x, y = centres[:, 0, None, None] - self._x, centres[:, 1, None, None] - self._y[:, None]
        covered: npt.NDArray[np.float64] = (radius - np.hypot(x, y)) / self._pixel + 0.5
        return covered.clip(0, 1)[..., None]


class PointMazePixels(gymnasium.Wrapper[Any, Any, Any, Any]):
    """`FixedGoalPointMaze` whose observations are `image`, a picture (P, P, 3) of the maze, its
    goal and the agent, and `velocity` (2,), which no single picture shows.

    Args:
        env: The maze.
        pixels: P.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], pixels: int) -> None:
        super().__init__(env)
        maze: Maze = env.get_wrapper_attr("layout")
        self._painter, self._shown = MazePainter(maze, pixels), MazePainter(maze, SHOWN)
        self._position = np.zeros(2)
        velocity = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        image = gymnasium.spaces.Box(0, 255, (pixels, pixels, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict({"image": image, "velocity": velocity})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Starts an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(
        self, action: Any
    ) -> tuple[dict[str, npt.NDArray[Any]], Any, bool, bool, dict[str, Any]]:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(observation), reward, terminated, truncated, info

    def render(self) -> Any:
        """A larger picture of what was observed last."""
        return self._shown(self._position[None])[0]

    def _seen(self, observation: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
        state = observation["observation"]
        self._position = np.array(state[:2])
        image = self._painter(self._position[None])[0]
        return {"image": image, "velocity": np.array(state[2:])}
