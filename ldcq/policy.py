"""A policy as a loop over environments holds it: in this process, or behind gRPC. NumPy only."""

from __future__ import annotations

from typing import Any, Protocol

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
