"""Trains the ant that walks in a given direction, and writes its network.

First on a plane, where the direction changes now and then, then in a maze, where a guide gives it
and walls are in the way. PPO of stable-baselines3, in an environment of its own, about an hour on
one core:

    python3.11 -m venv .venv-ant
    .venv-ant/bin/pip install -r experiments/ant_policy/requirements.txt
    .venv-ant/bin/python -m experiments.ant_policy.train common/generators/ant.safetensors
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from safetensors.numpy import save_file
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from common.data.d4rl_env import D4rlAntMaze
from common.data.maze import find_maze
from common.generators.ant import VIEW, to_actuators, view
from common.generators.ant_maze import Guide

Array = np.ndarray[Any, Any]
PLANE_STEPS, MAZE_STEPS = 2_500_000, 1_500_000
ENVIRONMENTS = 16
EPISODE_STEPS = 500
STEP_SECONDS = 0.1
EFFORT = 0.02
"""Cost of the squared torques of a step, beside a speed in metres per second."""
FALL = 10.0
"""Cost of a fall, which ends an episode."""
UP, LEANS = 3, 0.2
"""A fall: this entry of what is seen, the vertical part of the body's own up, is smaller."""
TURNS = 20, 100
"""After how many steps the direction on the plane changes, drawn every time."""


class Walking(gymnasium.Env[Array, Array]):
    """The reward is the speed in the direction that is asked for."""

    observation_space = Box(-np.inf, np.inf, (VIEW,), np.float32)
    action_space = Box(-1.0, 1.0, (8,), np.float32)

    def _begin(self) -> Array:
        """Starts an episode; returns the state, shape (29,)."""
        raise NotImplementedError

    def _move(self, torques: Array) -> Array:
        """One step; returns the state, shape (29,)."""
        raise NotImplementedError

    def _direction(self) -> Array:
        """Where to go from the state, a unit vector, shape (2,)."""
        raise NotImplementedError

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed, options=options)
        self._state, self._steps = self._begin(), 0
        self._towards = self._direction()
        seen, self._quarters = view(self._state, self._towards)
        return seen, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Walks for 0.1 s."""
        action, before = np.clip(action, -1, 1), self._state[:2].copy()
        self._state, self._steps = self._move(to_actuators(action, self._quarters)), self._steps + 1
        speed = float((self._state[:2] - before) @ self._towards) / STEP_SECONDS
        self._towards = self._direction()
        seen, self._quarters = view(self._state, self._towards)
        fell = bool(seen[UP] < LEANS)
        reward = speed - EFFORT * float(np.square(action).sum()) - FALL * fell
        return seen, reward, fell, self._steps == EPISODE_STEPS, {}


class Plane(Walking):
    """Without walls; the direction changes now and then."""

    def __init__(self) -> None:
        """Makes OGBench's ant."""
        self._inner = gymnasium.make(
            "ogbench.online_locomotion:online-ant-v0",
            exclude_current_positions_from_observation=False,
            terminate_when_unhealthy=False,
        ).unwrapped

    def _begin(self) -> Array:
        self._left = 0
        return np.asarray(self._inner.reset(seed=int(self.np_random.integers(2**31)))[0])

    def _move(self, torques: Array) -> Array:
        return np.asarray(self._inner.step(torques)[0])

    def _direction(self) -> Array:
        if self._left == 0:
            self._left = int(self.np_random.integers(*TURNS))
            angle = self.np_random.uniform(-np.pi, np.pi)
            self._now = np.array([np.cos(angle), np.sin(angle)])
        self._left -= 1
        return self._now


class InMaze(Walking):
    """In D4RL's large maze, where a guide gives the direction."""

    def __init__(self) -> None:
        """Makes the maze."""
        self._inner = D4rlAntMaze("large")

    def _begin(self) -> Array:
        self._guide = Guide(find_maze("large"), 1.0, self.np_random)
        self._inner.reset(seed=int(self.np_random.integers(2**31)))
        return _state(self._inner.place(self._guide.place()))

    def _move(self, torques: Array) -> Array:
        return _state(self._inner.step(torques)[0])

    def _direction(self) -> Array:
        return self._guide.heading(self._state[:2])


def _state(observation: dict[str, Array]) -> Array:
    return np.concatenate([observation["achieved_goal"], observation["observation"]])


def train(model: PPO | None, kind: type[Walking], steps: int, seed: int) -> PPO:
    """Trains on one kind of ground, from scratch or from where `model` is.

    Returns:
        The policy, with the environments that hold how its inputs are normalised.
    """
    made = [functools.partial(_seeded, kind, seed + index) for index in range(ENVIRONMENTS)]
    environment = VecNormalize(DummyVecEnv(made), gamma=0.97, clip_obs=8.0)
    if model is not None:
        before = model.get_vec_normalize_env()
        assert before is not None, "a model of this script has one"
        environment.obs_rms, environment.ret_rms = before.obs_rms, before.ret_rms
        model.set_env(environment)
    else:
        model = PPO(
            "MlpPolicy",
            environment,
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


def _seeded(kind: type[Walking], seed: int) -> Monitor:
    environment = Monitor(kind())
    environment.reset(seed=seed)
    return environment


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
    walker = train(None, Plane, PLANE_STEPS, 0)
    write(train(walker, InMaze, MAZE_STEPS, ENVIRONMENTS), given.file)
