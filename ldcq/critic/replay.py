"""Prioritised experience replay, proportional variant (Schaul et al. 2015; Table 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ldcq.config import ReplayConfig
from ldcq.critic.sum_tree import SumTree

PRIORITY_FLOOR = 1e-6
"""Added to |TD error| so that no window is lost for good (Schaul et al. 2015, section 3.3)."""


@dataclass(frozen=True)
class Minibatch:
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
    is used early. Those are counted in a tree of their own: a new largest priority, which is
    theirs from then on, then costs nothing.
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
        self._seen = SumTree(np.zeros(size))
        self._unseen = SumTree(np.ones(size))
        self._largest = 0.0

    def __len__(self) -> int:
        return self._seen.size

    def draw(self, step: int, batch_size: int, generator: torch.Generator) -> Minibatch:
        """Draws a mini-batch, one window from each of B equal shares of the total priority.

        Args:
            step: The update it is for, which decides beta.
            batch_size: B.
            generator: Source of randomness.

        Returns:
            Indices and importance weights.
        """
        seen, unseen, priority = self._seen, self._unseen, self._unseen_priority
        offsets = torch.rand(batch_size, generator=generator, dtype=torch.float64).numpy()
        total = seen.total + priority * unseen.total
        masses = (np.arange(batch_size) + offsets) * (total / batch_size)
        # Windows that were used come first, by their priorities, then the others.
        used = int(np.searchsorted(masses, seen.total)) if unseen.total else batch_size
        rest = (masses[used:] - seen.total) / priority
        indices = np.concatenate([seen.find(masses[:used]), unseen.find(rest)])
        probabilities = (seen.get(indices) + priority * unseen.get(indices)) / total
        return Minibatch(
            indices, importance_weights(probabilities, len(self), beta_at(self._config, step))
        )

    def update(self, indices: NDArray[np.int64], td_errors: NDArray[np.floating[Any]]) -> None:
        """Sets the priorities of windows that were just used.

        Args:
            indices: (B,).
            td_errors: Absolute or signed temporal-difference errors, (B,).
        """
        priorities = (np.abs(td_errors.astype(np.float64)) + PRIORITY_FLOOR) ** self._config.alpha
        self._seen.set(indices, priorities)
        self._unseen.set(indices, np.zeros(len(indices)))
        self._largest = max(self._largest, float(priorities.max()))

    def state_dict(self) -> dict[str, Any]:
        """Everything that decides later draws, beside their generators."""
        unseen = self._unseen.priorities
        return {
            "priorities": self._seen.priorities + self._unseen_priority * unseen,
            "unseen": unseen > 0,
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
        unseen = np.asarray(state["unseen"], dtype=np.bool_)
        self._seen = SumTree(np.where(unseen, 0.0, priorities))
        self._unseen = SumTree(unseen.astype(np.float64))
        self._largest = float(state["largest"])

    @property
    def _unseen_priority(self) -> float:
        return self._largest or 1.0
