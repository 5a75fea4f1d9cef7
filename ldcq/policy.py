"""A policy as a loop over environments holds it: in this process, or behind gRPC. NumPy only."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Policy(Protocol):
    """Chooses actions for E environments that are stepped side by side, and remembers its plan."""

    def act(self, observations: NDArray[Any], goals: NDArray[Any] | None = None) -> NDArray[Any]:
        """Actions of one step.

        Args:
            observations: In the environments' units, shape (E, S).
            goals: Shape (E, G), for a policy that pursues goals; others ignore them.

        Returns:
            Shape (E, A), float32; indices (E, 1), int64, where actions are discrete.
        """
        ...

    def reset(self, mask: NDArray[Any] | None = None) -> None:
        """Drops the plans of environments whose episode has just begun.

        Args:
            mask: Which, shape (E,), bool; None: all.
        """
        ...


def observed(
    observations: NDArray[Any], state_dim: int, environments: int | None
) -> NDArray[np.float32]:
    """Observations as float32.

    Args:
        observations: What a user gives, expected to be (E, S) and finite.
        state_dim: S.
        environments: E of the step before; None: there is none.

    Raises:
        ValueError: They are of another shape, not finite, or of other environments than before.
    """
    states = _finite("observations", observations)
    if states.ndim != 2 or states.shape[1] != state_dim or not len(states):
        hint = "; for one environment observations[None]" if states.ndim == 1 else ""
        raise ValueError(
            f"observations: got shape {states.shape}, expected (E, {state_dim}) with one row for "
            f"each environment{hint}"
        )
    if environments not in (None, len(states)):
        raise ValueError(
            f"observations: got {len(states)} environments, expected the {environments} of the "
            "step before; reset() forgets them"
        )
    return states


def pursued(goals: NDArray[Any] | None, environments: int, goal_dim: int) -> NDArray[np.float32]:
    """Goals as float32.

    Args:
        goals: What a user gives, expected to be (E, G) and finite.
        environments: E.
        goal_dim: G.

    Raises:
        ValueError: There are none, or they are of another shape, or not finite.
    """
    expected = f"expected shape ({environments}, {goal_dim}): the policy pursues goals"
    if goals is None:
        raise ValueError(f"goals: got none, {expected}")
    rows = _finite("goals", goals)
    if rows.shape != (environments, goal_dim):
        raise ValueError(f"goals: got shape {rows.shape}, {expected}")
    return rows


def masked(mask: NDArray[Any], environments: int) -> NDArray[np.bool_]:
    """A mask of environments as bool, (E,).

    Raises:
        ValueError: It is of another shape.
    """
    chosen = np.asarray(mask, dtype=np.bool_)
    if chosen.shape != (environments,):
        raise ValueError(f"mask: got shape {chosen.shape}, expected ({environments},)")
    return chosen


def _finite(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    try:
        rows = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: got {values!r}, expected an array of numbers") from error
    if not np.isfinite(rows).all():
        raise ValueError(f"{name}: got NaN or infinity, expected finite numbers")
    return rows
