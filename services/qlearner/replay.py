"""Prioritised experience replay, proportional variant (Schaul et al. 2015; Table 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.config import ReplayConfig
from services.qlearner.sum_tree import SumTree

PRIORITY_FLOOR = 1e-6
"""Added to |TD error| so that no window is lost for good (Schaul et al. 2015, section 3.3)."""


@dataclass(frozen=True)
class Draw:
    """One mini-batch drawn from the replay.

    Attributes:
        indices: Positions in the replay, (B,) int64.
        weights: Importance weights in (0, 1], (B,) float32.
    """

    indices: NDArray[np.int64]
    weights: NDArray[np.float32]


def beta_at(config: ReplayConfig, step: int) -> float:
    """Exponent of the importance weights at an update: grows by steps up to 1 (Table 7)."""
    return min(1.0, config.beta + config.beta_growth * (step // config.beta_growth_every))


def importance_weights(
    probabilities: NDArray[np.float64], count: int, beta: float
) -> NDArray[np.float32]:
    """(N P(i))^-beta, divided by the largest of the batch so that they only scale gradients down.

    Args:
        probabilities: P(i) of the drawn windows, (B,).
        count: N, windows in the replay.
        beta: 0 (no correction) to 1 (full correction).

    Returns:
        Weights, (B,) float32.
    """
    weights = (count * probabilities) ** -beta
    scaled: NDArray[np.float32] = (weights / weights.max()).astype(np.float32)
    return scaled


class PrioritisedReplay:
    """Draws windows by P(i) = p_i^alpha / sum_k p_k^alpha with p_i = |TD error| + floor.

    A window that has not been used yet has the largest priority seen so far, so that every window
    is used early.
    """

    def __init__(self, config: ReplayConfig, size: int) -> None:
        """Starts with equal priorities.

        Args:
            config: Exponents.
            size: N, windows.

        Raises:
            ValueError: No windows.
        """
        if size < 1:
            raise ValueError(f"the replay would hold {size} windows, expected at least 1")
        self._config = config
        self._tree = SumTree(np.ones(size))
        self._largest = 0.0
        self._unseen = np.ones(size, dtype=np.bool_)

    def __len__(self) -> int:
        return self._tree.size

    def draw(self, step: int, batch_size: int, generator: torch.Generator) -> Draw:
        """Draws a mini-batch, one window from each of B equal shares of the total priority.

        Args:
            step: The update it is for, which decides beta.
            batch_size: B.
            generator: Source of randomness.

        Returns:
            Indices and importance weights.
        """
        tree = self._tree
        offsets = torch.rand(batch_size, generator=generator, dtype=torch.float64).numpy()
        masses = (np.arange(batch_size) + offsets) * (tree.total / batch_size)
        indices = tree.find(masses)
        probabilities = tree.get(indices) / tree.total
        return Draw(
            indices, importance_weights(probabilities, len(self), beta_at(self._config, step))
        )

    def update(self, indices: NDArray[np.int64], td_errors: NDArray[np.floating[Any]]) -> None:
        """Sets the priorities of windows that were just used.

        Args:
            indices: (B,).
            td_errors: Absolute or signed temporal-difference errors, (B,).
        """
        if self._config.alpha == 0:
            return
        priorities = (np.abs(td_errors.astype(np.float64)) + PRIORITY_FLOOR) ** self._config.alpha
        self._tree.set(indices, priorities)
        self._unseen[indices] = False
        largest = max(self._largest, float(priorities.max()))
        if largest > self._largest:
            self._largest = largest
            waiting = np.flatnonzero(self._unseen)
            self._tree.set(waiting, np.full(len(waiting), largest))

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides later draws, beside their generators."""
        return {
            "priorities": self._tree.priorities,
            "unseen": self._unseen.copy(),
            "largest": self._largest,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`.

        Raises:
            ValueError: The state is of a replay of another size.
        """
        priorities = np.asarray(state["priorities"], dtype=np.float64)
        if len(priorities) != len(self):
            raise ValueError(
                f"the saved replay holds {len(priorities)} windows, expected {len(self)}"
            )
        self._tree = SumTree(priorities)
        self._unseen = np.array(state["unseen"], dtype=np.bool_)
        self._largest = float(state["largest"])
