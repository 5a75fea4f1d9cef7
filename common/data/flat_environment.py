"""An environment whose observations and actions are flat, as the models see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, SupportsFloat

import gymnasium
import numpy as np
import numpy.typing as npt

from common.data.environments import register_robotics
from common.data.extras import EXTRAS
from common.data.flattening import Flattening, joined_goal
from ldcq.config import ConfigError
from ldcq.config.callables import imported
from ldcq.data.episodes import DataError, Float

Action = npt.NDArray[np.generic] | int

GOAL: Final = "ldcq_goal"
"""The entry of `info` that holds the goal, shape (G,), after every reset and step of a task that
has one."""

SUCCESS: Final = "success"
"""The entry of `info` that says, after a step, whether the task is done."""


class FlatEnvironment(gymnasium.Wrapper[Float, Action, Any, Any]):
    """Observations become float32 vectors; flat actions take the shape and type the task wants.

    Observations with images stay as they are: those of many environments are compressed together.

    Where observations are a dictionary with `desired_goal`, that is the goal: every `info` holds it
    under `GOAL`, so that vectors of environments pass it on. One of several parts, as FrankaKitchen
    has a part for each subtask, is joined in the order of their names.

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
    return {**info, GOAL: joined_goal(observation["desired_goal"], count=1)[0]}


def make_registered(
    environment: str, render_mode: str | None, **settings: Any
) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make`; the project's own environments and those of gymnasium-robotics are
    registered first.

    Raises:
        DataError: The id is unknown, what it needs is not installed, or it takes other settings.
    """
    register_robotics()
    if render_mode is not None:  # there are environments that do not take it
        settings |= {"render_mode": render_mode}
    try:
        return gymnasium.make(environment, **settings)
    except (ModuleNotFoundError, gymnasium.error.DependencyNotInstalled) as error:
        raise missing_package(error, environment) from error
    except Exception as error:  # whatever the environment's own constructor raises
        given = f" with {settings}" if settings else ""
        taken = ", and keyword arguments that it takes" if settings else ""
        raise DataError(
            f"evaluation.environment: {environment!r} cannot be made{given} ({error}); expected a "
            f"Gymnasium id whose package is installed, or module:id of an environment of your "
            f"own{taken}"
        ) from error


def missing_package(error: Exception, environment: str) -> DataError:
    """The error that says how to install what an environment needs."""
    cause = error.__cause__  # Gymnasium's own error names no module
    named = cause if isinstance(cause, ModuleNotFoundError) else error
    missing = (getattr(named, "name", None) or "").partition(".")[0]
    extra = EXTRAS.get(missing)
    how = f"pip install 'ldcq[{extra}]'" if extra else "install it"
    return DataError(
        f"evaluation.environment: {environment!r} needs the package {missing!r}, which is not "
        f"here: {how}"
    )


def wrapped(
    environment: gymnasium.Env[Any, Any], wrappers: Sequence[str]
) -> gymnasium.Env[Any, Any]:
    """The environment inside wrappers, each named as `package.module:Callable`, first to last.

    Raises:
        ConfigError: One cannot be imported.
        DataError: One cannot wrap it, or returns no environment.
    """
    key, expected = "evaluation.environment.wrappers", "a wrapper as package.module:Callable"
    for name in wrappers:
        try:
            outer = imported(name, key, expected)(environment)
        except ConfigError:
            raise
        except Exception as error:  # whatever the wrapper raises
            raise DataError(
                f"{key}: {name!r} cannot wrap {environment} ({type(error).__name__}: {error}); "
                "expected one that takes an environment and nothing else"
            ) from error
        if not isinstance(outer, gymnasium.Env):
            raise DataError(
                f"{key}: {name!r} returns {type(outer).__name__}, expected a gymnasium.Env"
            )
        environment = outer
    return environment
