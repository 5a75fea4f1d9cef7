"""An environment whose observations and actions are flat, as the models see them."""

from __future__ import annotations

import importlib.util
from typing import Any, Final, SupportsFloat

import gymnasium
import numpy as np
import numpy.typing as npt

from common.data.flattening import Flattening
from ldcq.data.episodes import DataError, Float

Action = npt.NDArray[np.generic] | int

GOAL: Final = "ldcq_goal"
"""The entry of `info` that holds the goal, shape (G,), after every reset and step of a task that
has one."""


class FlatEnvironment(gymnasium.Wrapper[Float, Action, Any, Any]):
    """Observations become float32 vectors; flat actions take the shape and type the task wants.

    Observations with images stay as they are: those of many environments are compressed together.

    Where observations are a dictionary with `desired_goal`, that is the goal: every `info` holds it
    under `GOAL`, so that vectors of environments pass it on.

    Attributes:
        flattening: How observations are flattened.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], flattening: Flattening) -> None:
        """Wraps `environment`."""
        super().__init__(environment)
        self.flattening = flattening
        if not flattening.frame_shape:
            self.observation_space = gymnasium.spaces.Box(
                -np.inf, np.inf, (flattening.size,), np.float32
            )
        inner = environment.action_space
        if isinstance(inner, gymnasium.spaces.Box):
            self.action_space = gymnasium.spaces.Box(
                inner.low.reshape(-1).astype(np.float32), inner.high.reshape(-1).astype(np.float32)
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float, dict[str, Any]]:
        """Starts an episode; the state has shape (S,)."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._flat(observation), _with_goal(info, observation)

    def step(self, action: Action) -> tuple[Float, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step with an action of shape (A,), or a Discrete one as a number or of shape (1,)."""
        observation, reward, terminated, truncated, info = self.env.step(self._unflatten(action))
        info = _with_goal(info, observation)
        return self._flat(observation), reward, terminated, truncated, info

    def _flat(self, observation: Any) -> Any:
        return observation if self.flattening.frame_shape else self.flattening.single(observation)

    def _unflatten(self, action: Action) -> Any:
        inner = self.env.action_space
        if isinstance(inner, gymnasium.spaces.Box):
            return np.asarray(action, inner.dtype).reshape(inner.shape)
        return int(np.asarray(action).reshape(()))


def _with_goal(info: dict[str, Any], observation: Any) -> dict[str, Any]:
    if not isinstance(observation, dict) or "desired_goal" not in observation:
        return info
    return {**info, GOAL: np.array(observation["desired_goal"], np.float32).reshape(-1)}


def make_registered(
    environment: str, render_mode: str | None, **settings: Any
) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make`; the environments of gymnasium-robotics are registered first.

    Raises:
        DataError: The id is unknown, or what it needs is not installed.
    """
    if importlib.util.find_spec("gymnasium_robotics") is not None:
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)
    try:
        return gymnasium.make(environment, render_mode=render_mode, **settings)
    except Exception as error:  # whatever the environment's own constructor raises
        raise DataError(
            f"evaluation.environment: {environment!r} cannot be made ({error}); expected a "
            "Gymnasium id whose package is installed"
        ) from error
