"""Statistics for normalisation, computed once from the training episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ldcq.data.episodes import Float, blocks
from ldcq.data.windows import Windows

CONSTANT = 1e-6
"""A dimension whose deviation is below this share of its magnitude counts as constant."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every state dimension, each of shape (S,)."""

    state_mean: Float
    state_std: Float


def state_statistics(windows: Windows) -> Statistics:
    """Mean and standard deviation over all states of the training episodes that have windows.

    A constant dimension gets deviation 1: it carries nothing, and dividing by almost nothing would
    blow up rounding.

    Args:
        windows: Which episodes are trained on.
    """
    episodes = windows.episodes
    used = np.zeros(episodes.count, np.bool_)
    used[windows.episode[windows.training]] = True
    rows = np.repeat(used, episodes.lengths + 1)

    def mean_of(function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Any:
        total, start = np.zeros(episodes.spaces.state_dim), 0
        for block in blocks(episodes.observations):
            kept = block[rows[start : start + len(block)]]
            total += function(kept.astype(np.float64)).sum(axis=0)
            start += len(block)
        return total / rows.sum()

    mean = mean_of(lambda states: states)
    deviation = np.sqrt(mean_of(lambda states: np.square(states - mean)))
    varies = deviation > CONSTANT * np.maximum(np.abs(mean), 1.0)
    return Statistics(mean.astype(np.float32), np.where(varies, deviation, 1.0).astype(np.float32))
