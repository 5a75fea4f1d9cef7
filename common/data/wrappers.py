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


class RacingView(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gymnasium's CarRacing, seen as `image` and `instruments`.

    `image` is the environment's picture at half its size, 48 x 48 x 3, each pixel the mean of four.
    `instruments` (7,) are what the bars at its bottom show: speed, rotation of the four wheels
    (rad/s), angle of the front wheels (rad) and turning of the car (rad/s). One picture shows no
    motion otherwise, and a bar is 2 pixels wide of 96, which no compression of pictures keeps.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        shown = env.observation_space.shape
        assert shown is not None, "CarRacing shows pictures"
        image = gymnasium.spaces.Box(0, 255, (shown[0] // 2, shown[1] // 2, shown[2]), np.uint8)
        instruments = gymnasium.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({"image": image, "instruments": instruments})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode."""
        picture, info = self.env.reset(seed=seed, options=options)
        return self._seen(picture), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        """One step of 0.02 s."""
        picture, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(picture), reward, terminated, truncated, info

    def _seen(self, picture: Any) -> dict[str, Any]:
        height, width, channels = picture.shape
        blocks = picture.reshape(height // 2, 2, width // 2, 2, channels)
        task: Any = self.unwrapped
        hull, wheels = task.car.hull, task.car.wheels
        shown = [
            np.hypot(*hull.linearVelocity),
            *(wheel.omega for wheel in wheels),
            wheels[0].joint.angle,
            hull.angularVelocity,
        ]
        return {
            "image": np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8),
            "instruments": np.array(shown, np.float32),
        }
