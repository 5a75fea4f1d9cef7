"""Scores over several training seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.actor.scores import RESAMPLES, Estimate

Floats = NDArray[np.float64]


def hierarchical_bootstrap(values: Sequence[Floats], confidence: float, seed: int) -> Estimate:
    """Percentile bootstrap of a mean over training seeds and, inside them, episodes.

    Every resample draws seeds with replacement and then episodes with replacement. Episode i of
    every training seed has the same start, and a hard start is hard for all: episodes are drawn
    once for all seeds of a resample. With few seeds the interval is a little short: K draws of K
    seeds vary by (K - 1) / K of what seeds do.

    Args:
        values: One value per episode for every training seed, (E,) each.
        confidence: Coverage asked for, such as 0.95.
        seed: Seed of the resampling.

    Returns:
        The mean of the seeds' means and its interval; one seed gives the interval over episodes.

    Raises:
        ValueError: No seed, a seed without episodes, or unequal counts.
    """
    counts = {len(episodes) for episodes in values}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"episodes per training seed are {[len(v) for v in values]}, expected equal numbers, "
            "at least 1 each"
        )
    generator = np.random.default_rng(seed)
    seeds = generator.integers(len(values), size=(RESAMPLES, len(values)))
    table = np.stack(values)
    picks = generator.integers(table.shape[1], size=(RESAMPLES, table.shape[1]))
    # Column by column, a mean over the drawn seeds' weights: no (resamples, K, E) array.
    weights = np.stack([(seeds == k).mean(axis=1) for k in range(len(values))], axis=1)
    per_seed = np.stack([row[picks].mean(axis=1) for row in table], axis=1)
    means = (weights * per_seed).sum(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    mean = float(np.mean([episodes.mean() for episodes in values]))
    return Estimate(mean, float(low), float(high))
