"""Executes latents from given states in PointMaze's own simulation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.data import make_evaluation_env
from common.data.pointmaze import FastPointMaze
from ldcq.config import Config, ConfigError
from ldcq.vae.policy import LowLevelPolicy

Array = NDArray[Any]


@dataclass(frozen=True)
class PointSimulation:
    """PointMaze's simulation, which can be put into any state.

    Attributes:
        simulation: It.
    """

    simulation: FastPointMaze

    @classmethod
    def of(cls, config: Config, store_root: Path) -> PointSimulation:
        """That of a configuration's task.

        Raises:
            ConfigError: The task is no PointMaze, or its state is not position and velocity.
        """
        environment: Any = make_evaluation_env(config, store_root)()
        task = environment.unwrapped
        if not hasattr(task, "point_env") or environment.observation_space.shape != (4,):
            raise ConfigError(
                f"{config.data.dataset}: states of {environment.observation_space.shape}, expected "
                "position and velocity of a PointMaze (data.observation_keys: [observation])"
            )
        return cls(FastPointMaze(task))

    def step(self, state: Array, action: Array) -> Array:
        """The state (4,) after an action (2,) in a state (4,)."""
        self.simulation.set_state(state[:2], state[2:])
        self.simulation.step(action)
        return self.simulation.state


def execute(
    simulation: PointSimulation, decoder: LowLevelPolicy, states: Array, latents: Array
) -> Array:
    """Where latents end: each is decoded, by the mode, and executed for all H steps.

    Args:
        simulation: The environment's.
        decoder: pi(a | s, z).
        states: Raw, (N, 4).
        latents: Raw, (N, Z).

    Returns:
        Raw states s_{t+H}, (N, 4).
    """
    now, chosen = np.asarray(states, np.float64), torch.from_numpy(latents)
    for _ in range(decoder.dimensions.horizon):
        actions = decoder.act(torch.from_numpy(now.astype(np.float32)), chosen).numpy()
        now = np.stack([simulation.step(*pair) for pair in zip(now, actions, strict=True)])
    return now
