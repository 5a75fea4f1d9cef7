"""Trains the ant that walks in a given direction, and writes its network.

On a plane, where the direction changes often. PPO of stable-baselines3, in an environment of its
own, half an hour on one core:

    python3.11 -m venv .venv-ant
    .venv-ant/bin/pip install -r experiments/ant_policy/requirements.txt
    .venv-ant/bin/python -m experiments.ant_policy.train common/generators/ant.safetensors
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from safetensors.numpy import save_file
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from common.generators.ant import VIEW, to_actuators, view

Array = np.ndarray[Any, Any]
STEPS = 1_500_000
ENVIRONMENTS = 16
EPISODE_STEPS = 500
STEP_SECONDS = 0.1
EFFORT = 0.02
"""Cost of the squared torques of a step, beside a speed in metres per second."""
FALL = 10.0
"""Cost of a fall, which ends an episode."""
UP, LEANS = 3, 0.2
"""A fall: this entry of what is seen, the vertical part of the body's own up, is smaller."""
TURNED = 4.0
"""Cost of a body that is turned by a right angle; 0 where its axes are the world's."""
HEADING = -1
"""This entry of what is seen is the cosine of the body's heading."""
TURNS = 5, 60
"""After how many steps the direction changes, drawn every time."""


class Plane:
    """One ant without walls, and the direction that it is asked for, which changes now and then."""

    def __init__(self, seed: int) -> None:
        """Makes OGBench's ant; `seed` decides on all that is drawn."""
        self._random = np.random.default_rng(seed)
        self._inner: Any = gymnasium.make(
            "ogbench.online_locomotion:online-ant-v0",
            exclude_current_positions_from_observation=False,
            terminate_when_unhealthy=False,
        ).unwrapped

    def begin(self) -> Array:
        """Puts it at rest in the middle; returns the state, shape (29,)."""
        self._left = 0
        return np.asarray(self._inner.reset(seed=int(self._random.integers(2**31)))[0])

    def move(self, torques: Array) -> Array:
        """One step; returns the state, shape (29,)."""
        return np.asarray(self._inner.step(torques)[0])

    def direction(self) -> Array:
        """A unit vector, shape (2,): the same for `TURNS` calls, then any other."""
        if self._left == 0:
            self._left = int(self._random.integers(*TURNS))
            angle = self._random.uniform(-np.pi, np.pi)
            self._now = np.array([np.cos(angle), np.sin(angle)])
        self._left -= 1
        return self._now


class Ants(VecEnv):  # type: ignore[misc]  # the type checker has no stable-baselines3
    """Ants that are rewarded for their speed in the direction that each is asked for.

    A step is 0.1 s. They are seen together, which costs less than one after the other.
    """

    def __init__(self, planes: Sequence[Plane]) -> None:
        """Takes the ant of each of the planes."""
        seen = Box(-np.inf, np.inf, (VIEW,), np.float32)
        super().__init__(len(planes), seen, Box(-1.0, 1.0, (8,), np.float32))
        self._planes = planes

    def reset(self) -> Array:
        """Starts all episodes."""
        self._states = np.stack([plane.begin() for plane in self._planes])
        self._lengths = np.zeros(self.num_envs, int)
        self._returns = np.zeros(self.num_envs)
        return self._look()

    def step_async(self, actions: Array) -> None:
        """Takes the actions of the next step."""
        self._actions = np.clip(actions, -1, 1)

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """One step of all; an ant that falls, or has walked long enough, starts anew."""
        torques = to_actuators(self._actions, self._quarters)
        before, towards = self._states[:, :2].copy(), self._towards
        moved = zip(self._planes, torques, strict=True)
        self._states = np.stack([plane.move(torque) for plane, torque in moved])
        seen = self._look()
        speeds = ((self._states[:, :2] - before) * towards).sum(1) / STEP_SECONDS
        fell, turned = seen[:, UP] < LEANS, 1 - seen[:, HEADING]
        effort = np.square(self._actions).sum(1)
        rewards = speeds - EFFORT * effort - TURNED * turned - FALL * fell
        self._lengths, self._returns = self._lengths + 1, self._returns + rewards
        infos: list[dict[str, Any]] = [{} for _ in self._planes]
        ended = fell | (self._lengths == EPISODE_STEPS)
        for index in np.flatnonzero(ended).tolist():
            told = {"r": self._returns[index], "l": self._lengths[index], "t": time.monotonic()}
            last = {"terminal_observation": seen[index], "TimeLimit.truncated": not fell[index]}
            infos[index] = {"episode": told, **last}
            self._states[index] = self._planes[index].begin()
            self._lengths[index], self._returns[index] = 0, 0.0
        return self._look() if ended.any() else seen, rewards, ended, infos

    def _look(self) -> Array:
        self._towards = np.stack([plane.direction() for plane in self._planes])
        seen, self._quarters = view(self._states, self._towards)
        return seen

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: object = None) -> list[Any]:  # noqa: ARG002
        """How they are drawn, which is all that is asked for: not at all."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: object, indices: object = None) -> None:
        """Nothing can be set."""
        raise NotImplementedError

    def env_method(self, method_name: str, *args: object, **kwargs: object) -> list[Any]:
        """Nothing can be called."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: object, indices: object = None) -> list[bool]:  # noqa: ARG002
        """By nothing."""
        return [False] * self.num_envs


def train(steps: int, seed: int) -> PPO:
    """Trains for some steps.

    Returns:
        The policy, with the environments that hold how its inputs are normalised.
    """
    ants = Ants([Plane(seed + index) for index in range(ENVIRONMENTS)])
    model = PPO(
        "MlpPolicy",
        VecNormalize(ants, gamma=0.97, clip_obs=8.0),
        learning_rate=lambda left: 3e-4 * (0.1 + 0.9 * left),
        n_steps=256,
        batch_size=1024,
        n_epochs=8,
        gamma=0.97,
        gae_lambda=0.95,
        policy_kwargs={"net_arch": {"pi": [128, 128], "vf": [128, 128]}, "log_std_init": -0.5},
        seed=seed,
        device="cpu",
        verbose=1,
    )
    return model.learn(steps, log_interval=10)


def write(model: PPO, file: Path) -> None:
    """Writes the layers of the mean action and how inputs are normalised, for `ant.walk`."""
    normal = model.get_vec_normalize_env()
    assert normal is not None, "a model of this script has one"
    inputs = normal.obs_rms
    arrays = {"mean": inputs.mean, "deviation": np.sqrt(inputs.var + normal.epsilon)}
    layers = model.policy.mlp_extractor.policy_net[0], model.policy.mlp_extractor.policy_net[2]
    for index, layer in enumerate((*layers, model.policy.action_net)):
        arrays |= {f"weight{index}": layer.weight.detach().numpy()}
        arrays |= {f"bias{index}": layer.bias.detach().numpy()}
    save_file({name: np.asarray(array, np.float32) for name, array in arrays.items()}, file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where the network goes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    write(train(STEPS, 0), given.file)
