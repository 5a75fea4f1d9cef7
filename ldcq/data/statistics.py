"""Statistics for normalisation, computed once from the training episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ldcq.data.episodes import Boolean, Episodes, Float, blocks
from ldcq.data.windows import Windows

Double = npt.NDArray[np.float64]
CONSTANT = 1e-6
"""A dimension whose deviation is below this share of its magnitude counts as constant."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every state dimension, each of shape (S,)."""

    state_mean: Float
    state_std: Float


def state_statistics(windows: Windows) -> Statistics:
    """Mean and standard deviation over all states of the training episodes that have windows.

    Args:
        windows: Which episodes are trained on.
    """
    episodes = windows.episodes
    used = np.zeros(episodes.count, np.bool_)
    used[windows.episode[windows.training]] = True
    rows = np.repeat(used, episodes.lengths + 1)

    mean = column_mean(episodes.observations, rows)
    deviation = np.sqrt(
        column_mean(episodes.observations, rows, lambda states: np.square(states - mean))
    )
    return Statistics(mean.astype(np.float32), scale(mean, deviation).astype(np.float32))


def scale(mean: Double, deviation: Double) -> Double:
    """What data are divided by to standardise them, the one rule of all models: their standard
    deviation, or 1 in a dimension that is constant. That carries nothing, and where it is .001 off
    in the end, dividing by almost nothing would make 1,000 of it.

    Args:
        mean: Of each dimension, shape (D,).
        deviation: Its standard deviation, rounding included, shape (D,).

    Returns:
        Positive, shape (D,).
    """
    return np.where(deviation > CONSTANT * np.maximum(np.abs(mean), 1.0), deviation, 1.0)


def action_range(episodes: Episodes) -> tuple[Float, Float]:
    """The least and the greatest action of the data, inside the bounds of the action space.

    Bounds alone would not do: spaces without any are common, files have none, and some are far
    wider than what is ever done.

    Args:
        episodes: Of any number.

    Returns:
        Shape (A,) each.
    """
    low, high = episodes.spaces.action_high, episodes.spaces.action_low
    for block in blocks(episodes.actions):
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    bounds = episodes.spaces.action_low, episodes.spaces.action_high
    return low.clip(*bounds).astype(np.float32), high.clip(*bounds).astype(np.float32)


def column_mean(
    values: Float, rows: Boolean, function: Callable[[Double], Double] = lambda block: block
) -> Double:
    """Mean over some rows of a column that may be larger than memory, in double precision.

    Args:
        values: Shape (M, D).
        rows: Which, shape (M,).
        function: Of a block (B, D) of them; its mean is taken.

    Returns:
        Shape (D,).
    """
    total, start = np.zeros(values.shape[1]), 0
    for block in blocks(values):
        kept = block[rows[start : start + len(block)]]
        total += function(kept.astype(np.float64)).sum(axis=0)
        start += len(block)
    mean: Double = total / np.count_nonzero(rows)
    return mean
