"""What a predicted state costs: the distance to the goal, or a function of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ldcq.config import Config, ConfigError, resolve_variant
from ldcq.config.callables import imported

Array = NDArray[Any]
Cost = Callable[[Array, Array | None], Array]
"""Raw states (R, S) and goals (R, G), or None for a task without goals, to costs (R,); the least is
the best, and NaN is worse than all."""

EUCLIDEAN = "euclidean"
_KEY = "actor.planning.cost"


def check_costs(base: Config) -> None:
    """Finds what methods of policy `ldcp` judge by: better known before anything is waited for.

    Args:
        base: The main pipeline's configuration.

    Raises:
        ConfigError: As of `find_cost`.
    """
    for method in base.evaluation.methods.values():
        if method.policy == "ldcp":
            find_cost(resolve_variant(base, method.variant))


def find_cost(config: Config) -> Cost:
    """The cost that a variant's configuration names.

    Args:
        config: The variant's own configuration.

    Raises:
        ConfigError: `euclidean` without `data.goal_indices`; a function that cannot be imported or
            does not take states and goals.
    """
    name = config.actor.planning.cost
    if name == EUCLIDEAN:
        if not config.data.goal_indices:
            raise ConfigError(
                f"{_KEY} is {EUCLIDEAN!r}, expected data.goal_indices to name the entries of the "
                "state that a goal prescribes; or name a function of your own as "
                "package.module:function"
            )
        return euclidean(config.data.goal_indices)
    return _checked(name, _imported(name))


def euclidean(goal_indices: Sequence[int]) -> Cost:
    """The distance of a state's entries `goal_indices` to its goal (supplement B)."""
    indices = list(goal_indices)

    def cost(states: Array, goals: Array | None) -> Array:
        assert goals is not None  # checked with the environment's spaces, before anything is played
        distances: Array = np.linalg.norm(states[:, indices] - goals, axis=1)
        return distances

    return cost


def _imported(name: str) -> Callable[..., Any]:
    wanted = f"{EUCLIDEAN!r} or a function of your own as package.module:function"
    found = imported(name, _KEY, wanted)
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as error:
        raise ConfigError(
            f"{_KEY} is {name!r}, expected a function of states and goals: {error}"
        ) from error
    except ValueError:
        pass  # a function of C without a signature: its first call will tell
    return found


def _checked(name: str, function: Callable[..., Any]) -> Cost:
    def cost(states: Array, goals: Array | None) -> Array:
        costs = np.asarray(function(states, goals))
        if costs.shape != (len(states),):
            raise ConfigError(
                f"{_KEY} is {name!r}: it gave shape {costs.shape} for {len(states)} states, "
                f"expected ({len(states)},): one cost for each"
            )
        return costs

    return cost
