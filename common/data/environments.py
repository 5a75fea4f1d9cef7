"""The project's own environments as Gymnasium ids: importing this module registers them.

`ldcq` does it by itself; elsewhere `gymnasium.register_envs(common.data.environments)`, or
`gymnasium.make("common.data.environments:ldcq/PointMaze-v0", maze="umaze")`.
"""

from __future__ import annotations

import copy
import importlib.util
import io
from contextlib import redirect_stderr
from typing import Any, Final

import gymnasium
from gymnasium.envs.registration import EnvSpec

from common.data.maze import MAZES
from common.data.random_walk_env import MAX_EPISODE_STEPS

POINT_MAZE: Final = "ldcq/PointMaze-v0"
"""Takes `maze`, a name or a map. Its time limit is that of the maze `large`."""
RANDOM_WALK: Final = "ldcq/RandomWalk-v0"
FRANKA_KITCHEN: Final = "ldcq/FrankaKitchen-v0"
"""Takes `tasks` and `observations`, see `common.data.kitchen`."""
D4RL_MAZE2D: Final = "ldcq/D4rlMaze2d-v0"
D4RL_ANT_MAZE: Final = "ldcq/D4rlAntMaze-v0"
"""Both take `maze`, see `common.data.d4rl_env`."""

_SPECS = (
    (POINT_MAZE, "common.data.pointmaze_env:FixedGoalPointMaze", MAZES["large"].max_episode_steps),
    (RANDOM_WALK, "common.data.random_walk_env:RandomWalk", MAX_EPISODE_STEPS),
    (FRANKA_KITCHEN, "common.data.kitchen:franka_kitchen", 280),
    (D4RL_MAZE2D, "common.data.d4rl_env:D4rlMaze2d", MAZES["large"].max_episode_steps),
    (D4RL_ANT_MAZE, "common.data.d4rl_env:D4rlAntMaze", 1000),
)
for _id, _entry_point, _steps in _SPECS:
    gymnasium.register(
        _id, entry_point=_entry_point, max_episode_steps=_steps, disable_env_checker=True
    )


def recorded_spec(environment: str, max_episode_steps: int | None = None, **kwargs: Any) -> EnvSpec:
    """How one of these environments is made, to be recorded with data.

    It names the class, so that a dataset recovers it without a registry.

    Args:
        environment: Its id.
        max_episode_steps: Its time limit; None: the registered one.
        **kwargs: What it is made with.
    """
    spec = copy.deepcopy(gymnasium.spec(environment))
    spec.kwargs |= kwargs
    spec.max_episode_steps = max_episode_steps or spec.max_episode_steps
    return spec


def register_robotics() -> None:
    """Registers the environments of gymnasium-robotics, where it is installed, and mends it for the
    MuJoCo that is installed.
    """
    if importlib.util.find_spec("gymnasium_robotics") is not None:
        with redirect_stderr(io.StringIO()):  # it prints a notice, of rewards of Adroit's v1
            import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
        _mend_joint_types()


def _mend_joint_types() -> None:
    """gymnasium-robotics asks whether a joint's type, an int32, is in a tuple of `mjtJoint`. After
    MuJoCo 3.10 a member of that on the left of `==` equals no int32, so that FrankaKitchen, and
    whatever else reads joints by name, cannot be made. There the members become integers.
    """
    import mujoco
    import numpy as np
    from gymnasium_robotics.utils import mujoco_utils

    hinge = mujoco.mjtJoint.mjJNT_HINGE
    if np.int32(int(hinge)) not in (hinge,):
        mujoco_utils.mujoco = _WithIntegerJoints(mujoco)


class _WithIntegerJoints:
    """A module `mujoco` whose `mjtJoint` holds integers."""

    def __init__(self, module: Any) -> None:
        self._module = module
        members = module.mjtJoint.__members__
        self.mjtJoint = type("mjtJoint", (), {name: int(kind) for name, kind in members.items()})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
