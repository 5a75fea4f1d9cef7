"""OGBench's scripted play as one of its files: `python -m tests.ogbench_play scene-play-v0.npz`,
with the extra `ogbench`. The oracles are OGBench's own; they go for one object after another.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

STEPS = 1001
"""Rows of a trajectory, as in the published files."""


def record(environment: str, steps: int, seed: int) -> dict[str, Any]:
    """Plays, and returns the arrays of a file without rewards.

    Args:
        environment: Gymnasium id of OGBench's, `scene-v0` or `cube-double-v0`.
        steps: Rows in all.
        seed: Of the play.
    """
    import gymnasium
    from ogbench.manipspace.oracles.plan.button_plan import ButtonPlanOracle
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle
    from ogbench.manipspace.oracles.plan.drawer_plan import DrawerPlanOracle
    from ogbench.manipspace.oracles.plan.window_plan import WindowPlanOracle

    settings: dict[str, Any] = {"mode": "data_collection", "terminate_at_goal": False}
    env = gymnasium.make(f"ogbench:{environment}", max_episode_steps=STEPS, **settings)
    task: Any = env.unwrapped
    plans = CubePlanOracle, ButtonPlanOracle, DrawerPlanOracle, WindowPlanOracle
    names = "cube", "button", "drawer", "window"
    oracles = {name: plan(env=env) for name, plan in zip(names, plans, strict=True)}
    np.random.seed(seed)  # noqa: NPY002  (OGBench draws the plans' noise from it)
    rows: dict[str, list[Any]] = {}
    while len(rows.get("actions", ())) < steps:
        observation, info = env.reset(seed=seed + len(rows.get("actions", ())))
        ended, oracle = False, None
        while not ended:
            if oracle is None or oracle.done:
                if oracle is not None:
                    observation, info = task.set_new_target()
                oracle = oracles[info.get("privileged/target_task", "cube")]
                oracle.reset(observation, info)
            action = np.clip(oracle.select_action(observation, info), -1, 1)
            row = {"observations": observation, "actions": action}
            observation, _, _, ended, info = env.step(action)
            ended = ended or len(rows.get("actions", ())) + 1 >= steps
            row |= {"terminals": ended, "qpos": info["prev_qpos"], "qvel": info["prev_qvel"]}
            if "prev_button_states" in info:
                row["button_states"] = info["prev_button_states"]
            for key, value in row.items():
                rows.setdefault(key, []).append(value)
    env.close()
    floats = {key: np.asarray(values, np.float32) for key, values in rows.items()}
    return floats | {"terminals": np.asarray(rows["terminals"], np.bool_)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--environment", default="scene-v0")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    np.savez_compressed(given.file, **record(given.environment, given.steps, given.seed))
