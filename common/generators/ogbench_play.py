"""OGBench's scripted play with a robot's arm: its oracles go for one object after another."""

from __future__ import annotations

from typing import Any

import numpy as np

from common.data.extras import require
from common.data.minari_writing import EpisodeArrays
from ldcq.config.generate import OgbenchPlayConfig

EPISODE_STEPS = 1000
"""Of a trajectory, as in OGBench's published files."""
MOST_STACKED = 0.25
"""The chance that a cube is put on another is drawn per trajectory up to this, as OGBench does for
two cubes."""


class ScriptedPlay:
    """Plays trajectories of OGBench's manipulation environments.

    The observations, actions and noise are those of OGBench's own `play` data. `infos` keep the
    simulator's states, from which rewards of any of its tasks can be told; nothing is rewarded.
    """

    def __init__(self, config: OgbenchPlayConfig) -> None:
        """Makes the environment and its oracles.

        Raises:
            DataError: OGBench is not installed.
        """
        require("ogbench", "data.generate")
        import gymnasium
        from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
        from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
        from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
        from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

        self.environment = gymnasium.make(
            f"ogbench:{config.environment}",
            max_episode_steps=EPISODE_STEPS,
            mode="data_collection",
            terminate_at_goal=False,
        )
        plans = {
            "cube": CubePlanOracle,
            "button": ButtonPlanOracle,
            "drawer": DrawerPlanOracle,
            "window": WindowPlanOracle,
        }
        name, _, version = config.environment.rpartition("-")
        self.evaluation = gymnasium.spec(f"{name}-singletask-{version}")
        self.metadata = {
            "algorithm_name": "OGBench's scripted play",
            "description": f"{config.environment}: one object after another, without rewards.",
        }
        self._oracles = {
            name: plan(env=self.environment, noise=config.noise) for name, plan in plans.items()
        }

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        """One trajectory of `EPISODE_STEPS` steps, a function of `seed` alone."""
        numbers = seed.generate_state(2)
        # OGBench draws the noise of its plans, and the targets of some, from NumPy's own state.
        np.random.seed(int(numbers[0]))  # noqa: NPY002
        stacked = float(np.random.default_rng(seed).uniform(0, MOST_STACKED))
        task: Any = self.environment.unwrapped
        observation, info = self.environment.reset(seed=int(numbers[1]))
        self.environment.action_space.seed(int(numbers[1]))
        observations, states, actions, oracle = [observation], [_state(info)], [], None
        for _ in range(EPISODE_STEPS):
            if oracle is None or oracle.done:
                if oracle is not None:
                    observation, info = task.set_new_target(p_stack=stacked)
                oracle = self._oracles[info.get("privileged/target_task", "cube")]
                oracle.reset(observation, info)
            action = np.clip(oracle.select_action(observation, info), -1, 1)
            observation, _, _, _, info = self.environment.step(action)
            actions.append(action)
            observations.append(observation)
            states.append(_state(info))
        return EpisodeArrays(
            observations=np.asarray(observations),
            actions=np.asarray(actions, np.float32),
            rewards=np.zeros(EPISODE_STEPS),
            terminations=np.zeros(EPISODE_STEPS, np.bool_),
            truncations=np.arange(EPISODE_STEPS) == EPISODE_STEPS - 1,
            infos={key: np.asarray([state[key] for state in states]) for key in states[0]},
        )


def _state(info: dict[str, Any]) -> dict[str, Any]:
    return {key: info[key].copy() for key in ("qpos", "qvel", "button_states") if key in info}
