"""Scores over several training seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.actor.scores import RESAMPLES, Estimate

Floats = NDArray[np.float64]


def hierarchical_bootstrap(
    values: Sequence[Floats], confidence: float, seed: int, *, same_starts: bool = True
) -> Estimate:
    """Percentile bootstrap of a mean over training seeds and, inside them, episodes.

    Every resample draws seeds with replacement and then episodes with replacement. With few seeds
    the interval is a little short: K draws of K seeds vary by (K - 1) / K of what seeds do.

    Args:
        values: One value per episode for every training seed, shapes (E_k,).
        confidence: Coverage asked for, such as 0.95.
        seed: Seed of the resampling.
        same_starts: Episode i of every training seed has the same start, so that a hard start is
            hard for all: episodes are then drawn once for all seeds of a resample. False: each
            seed's episodes are drawn apart.

    Returns:
        The mean of the seeds' means and its interval; one seed gives the interval over episodes.

    Raises:
        ValueError: No seed, a seed without episodes, or `same_starts` with unequal counts.
    """
    counts = {len(episodes) for episodes in values}
    if not values or 0 in counts:
        raise ValueError(
            f"episodes per training seed are {[len(v) for v in values]}, expected at least 1 each"
        )
    if same_starts and len(counts) > 1:
        raise ValueError(
            f"episodes per training seed are {[len(v) for v in values]}, expected equal numbers "
            "where starts are the same"
        )
    generator = np.random.default_rng(seed)
    seeds = generator.integers(len(values), size=(RESAMPLES, len(values)))
    means = _shared(values, seeds, generator) if same_starts else _apart(values, seeds, generator)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    mean = float(np.mean([episodes.mean() for episodes in values]))
    return Estimate(mean, float(low), float(high))


def _shared(
    values: Sequence[Floats], seeds: NDArray[np.int64], generator: np.random.Generator
) -> Floats:
    table = np.stack(values)
    episodes = table.shape[1]
    picks = generator.integers(episodes, size=(len(seeds), episodes))
    # Column by column, a mean over the drawn seeds' weights: no (resamples, K, E) array.
    weights = np.stack([(seeds == k).mean(axis=1) for k in range(len(values))], axis=1)
    per_seed = np.stack([row[picks].mean(axis=1) for row in table], axis=1)
    means: Floats = (weights * per_seed).sum(axis=1)
    return means


def _apart(
    values: Sequence[Floats], seeds: NDArray[np.int64], generator: np.random.Generator
) -> Floats:
    means = np.zeros(len(seeds))
    for drawn in seeds.T:
        for k, episodes in enumerate(values):
            rows = np.flatnonzero(drawn == k)
            picks = generator.integers(len(episodes), size=(len(rows), len(episodes)))
            means[rows] += episodes[picks].mean(axis=1)
    return means / len(values)
