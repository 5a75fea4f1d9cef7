"""Intervals over a few training seeds whose episodes have the same starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.actor.scores import Estimate, bootstrap

Floats = NDArray[np.float64]
_GRID = 20_001
"""Points of the integral under Student's density: four digits of its quantiles."""


def over_seeds(values: Sequence[Floats], confidence: float, seed: int) -> Estimate:
    """The mean over training seeds and starts, and its interval; see `half_width`.

    Args:
        values: One value per episode for every training seed, (E,) each; episode i of every seed
            has the same start. For the difference of two methods: the differences, episode by
            episode.
        confidence: Coverage asked for, such as 0.95.
        seed: Of the bootstrap over episodes that a single training seed gets.

    Raises:
        ValueError: No seed, a seed without episodes, or unequal counts.
    """
    counts = {len(episodes) for episodes in values}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"episodes per training seed are {[len(v) for v in values]}, expected equal numbers, "
            "at least 1 each"
        )
    if len(values) == 1:
        return bootstrap(values[0], confidence, seed)
    table = np.stack(values)
    mean, reach = float(table.mean()), float(half_width(table, confidence))
    return Estimate(mean, mean - reach, mean + reach)


def half_width(values: NDArray[Any], confidence: float) -> Floats:
    """Half the width of the interval of a mean over K seeds and E starts, crossed at random.

    Value (k, i) is mu + seed_k + start_i + noise_ki. Student's interval over the seeds' means, with
    K - 1 degrees of freedom, holds what seeds and noise do. All seeds share the starts, whose part
    of the variance it cannot see: E - 1 degrees of freedom, and estimated without the noise, which
    is counted already. The squares of the two half-widths add up. With K = 3 and 5 seeds an
    interval of 95 % covers 95 to 98 %, at any ratio of the variances
    (tests/experiments/test_intervals.py).

    Args:
        values: Shape (..., K, E), K at least 2.
        confidence: Coverage asked for.

    Returns:
        Shape (...).
    """
    seeds, starts = values.shape[-2:]
    by_seed, by_start = values.mean(axis=-1), values.mean(axis=-2)
    reach: Floats = np.square(student_quantile(confidence, seeds - 1)) * _error(by_seed)
    if starts > 1:
        noise = values - by_seed[..., None] - by_start[..., None, :]
        freedom = (seeds - 1) * (starts - 1)
        spread = noise - noise.mean(axis=(-2, -1), keepdims=True)
        shared = np.square(spread).sum(axis=(-2, -1)) / freedom / (seeds * starts)
        rest = np.maximum(_error(by_start) - shared, 0.0)
        reach = reach + np.square(student_quantile(confidence, starts - 1)) * rest
    return np.sqrt(reach)


def student_quantile(confidence: float, freedom: int) -> float:
    """How many standard errors to either side of a mean hold `confidence` of Student's t.

    Its density over t = sqrt(freedom) tan(angle) is cos(angle)^(freedom - 1).
    """
    angles = np.linspace(0.0, np.pi / 2, _GRID)
    density = np.cos(angles) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(freedom) * np.tan(np.interp(confidence * below[-1], below, angles)))


def _error(means: Floats) -> Floats:
    """The squared standard error of a mean of means (..., M)."""
    error: Floats = means.var(axis=-1, ddof=1) / means.shape[-1]
    return error
