"""Statistics for normalisation, computed once from the training episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.data.episodes import Float
from common.data.windows import Windows

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
    mean = np.empty(episodes.spaces.state_dim)
    deviation = np.empty(episodes.spaces.state_dim)
    for dimension in range(episodes.spaces.state_dim):  # one column in double precision at a time
        column = episodes.observations[rows, dimension].astype(np.float64)
        mean[dimension], deviation[dimension] = column.mean(), column.std()
    varies = deviation > CONSTANT * np.maximum(np.abs(mean), 1.0)
    return Statistics(mean.astype(np.float32), np.where(varies, deviation, 1.0).astype(np.float32))
