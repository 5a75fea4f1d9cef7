"""FrankaKitchen as D4RL evaluates it: its tasks, its score, its observations.

Sources: D4RL's `kitchen_envs.py` and `kitchen/__init__.py` (subtasks, rewards, 280 steps, reference
scores 0 and 4), `kitchen_multitask_v0.py` (observations), `franka_robot.py` (noise).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import gymnasium
import numpy as np
import numpy.typing as npt

from common.data.environments import register_robotics

TASKS: Final = {
    "complete": ("microwave", "kettle", "light switch", "slide cabinet"),
    "partial": ("microwave", "kettle", "light switch", "slide cabinet"),
    "mixed": ("microwave", "kettle", "bottom burner", "light switch"),
}
"""The four subtasks of D4RL's kitchen-complete, kitchen-partial and kitchen-mixed."""
ROBOT_NOISE: Final = 0.1
"""D4RL's share of the noise of the robot's sensors; gymnasium-robotics has 0.01."""
_ROBOT, _OBJECTS = slice(0, 9), slice(18, 39)
"""Where the positions are in gymnasium-robotics' 59 numbers: qpos 9, qvel 9, objects 21 and 20."""


def franka_kitchen(
    tasks: str | Sequence[str] = "partial",
    observations: Literal["d4rl", "minari"] = "d4rl",
    render_mode: str | None = None,
) -> gymnasium.Env[Any, Any]:
    """gymnasium-robotics' FrankaKitchen with D4RL's rewards.

    A step's reward is the number of subtasks completed in it. A completed subtask is not counted
    again, and an episode ends when all are done: its return is the number of completed subtasks,
    and 25 times that is D4RL's score. `info["success"]` says whether all are done.

    Args:
        tasks: `complete`, `partial`, `mixed`, or names of subtasks.
        observations: `d4rl`: 60 numbers, as D4RL's files have them; `minari`: 59 numbers with
            velocities, and goals, as Minari's datasets have them.
        render_mode: As of Gymnasium.

    Raises:
        ValueError: Tasks or observations have no such name.
    """
    register_robotics()
    from gymnasium_robotics.envs.franka_kitchen import KitchenEnv

    if isinstance(tasks, str) and tasks not in TASKS:
        raise ValueError(f"tasks is {tasks!r}, expected one of {', '.join(TASKS)}, or subtasks")
    if observations not in ("d4rl", "minari"):
        raise ValueError(f"observations is {observations!r}, expected 'd4rl' or 'minari'")
    wanted = TASKS[tasks] if isinstance(tasks, str) else tuple(tasks)
    kitchen = KitchenEnv([*wanted], robot_noise_ratio=ROBOT_NOISE, render_mode=render_mode)
    done = _SaysSuccess(kitchen)
    return _D4rlObservations(done) if observations == "d4rl" else done


class _SaysSuccess(gymnasium.Wrapper[Any, Any, Any, Any]):
    """`info["success"]`: all subtasks are done."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, "success": not info["tasks_to_complete"]}
        return observation, reward, terminated, truncated, info


class _D4rlObservations(gymnasium.ObservationWrapper[npt.NDArray[np.float64], Any, Any]):
    """D4RL's 60 numbers: positions of the robot (9) and of the objects (21), and the positions that
    the subtasks ask for (30, of robot and objects; 0 where they ask for none).
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_INDICES

        task: Any = env.unwrapped
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (60,), np.float64)
        self._goal = np.zeros(30)
        for subtask, positions in task.goal.items():
            self._goal[OBS_ELEMENT_INDICES[subtask]] = positions

    def observation(self, observation: dict[str, Any]) -> npt.NDArray[np.float64]:
        """From gymnasium-robotics' dictionary."""
        state = observation["observation"]
        return np.concatenate([state[_ROBOT], state[_OBJECTS], self._goal])
