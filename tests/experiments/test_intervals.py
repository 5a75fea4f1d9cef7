"""Intervals over seeds hold the truth as often as they say, also with three seeds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.intervals import half_width, over_seeds, student_quantile
from services.actor.scores import bootstrap

EPISODES, TRIALS = 100, 3000
Floats = NDArray[np.float64]
RATIOS = [(0.0, 0.0), (0.0, 1.0), (0.05, 1.0), (0.1, 0.3), (0.3, 1.0), (1.0, 1.0), (1.0, 0.0)]
"""Standard deviations of seeds and of starts, in those of an episode's own noise."""


def simulated(seeds: int, of_seeds: float, of_starts: float, random: np.random.Generator) -> Floats:
    """Scores whose true mean is 0, (TRIALS, seeds, EPISODES): a hard start is hard for all."""
    normal = random.standard_normal
    return (
        of_seeds * normal((TRIALS, seeds, 1))
        + of_starts * normal((TRIALS, 1, EPISODES))
        + normal((TRIALS, seeds, EPISODES))
    )


def coverage(values: Floats, truth: float = 0.0) -> float:
    """Share of trials whose 95 % interval holds the truth."""
    return float((np.abs(values.mean(axis=(1, 2)) - truth) <= half_width(values, 0.95)).mean())


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_starts"), RATIOS)
def test_an_interval_covers_what_it_says(seeds: int, of_seeds: float, of_starts: float) -> None:
    values = simulated(seeds, of_seeds, of_starts, np.random.default_rng(seeds))
    assert 0.935 <= coverage(values) <= 0.985


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seeds", "of_starts"), RATIOS)
def test_an_interval_of_a_difference_covers_what_it_says(
    seeds: int, of_seeds: float, of_starts: float
) -> None:
    """Two methods that share seeds and starts, one of them 0.3 better."""
    random = np.random.default_rng(10 + seeds)
    shared = 3.0 * random.standard_normal((TRIALS, 1, EPISODES))
    first, second = (shared + simulated(seeds, of_seeds, of_starts, random) for _ in range(2))
    assert 0.935 <= coverage(first + 0.3 - second, 0.3) <= 0.985


@pytest.mark.parametrize("seeds", [3, 5])
def test_scores_that_are_all_or_nothing_are_covered_too(seeds: int) -> None:
    """Success of episodes whose chance depends on the seed and, more so, on the start."""
    random = np.random.default_rng(seeds)
    chance = np.clip(
        0.75
        + 0.05 * random.standard_normal((TRIALS, seeds, 1))
        + 0.15 * random.choice([-1.0, 1.0], (TRIALS, 1, EPISODES)),
        0.0,
        1.0,
    )
    values = (random.random((TRIALS, seeds, EPISODES)) < chance).astype(np.float64)
    assert 0.93 <= coverage(values, 0.75) <= 0.985


@pytest.mark.parametrize(
    ("confidence", "freedom", "quantile"),
    [(0.95, 1, 12.7062), (0.95, 2, 4.30265), (0.95, 4, 2.77645), (0.9, 4, 2.13185),
     (0.95, 99, 1.98422), (0.99, 9, 3.24984)],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_tables(
    confidence: float, freedom: int, quantile: float
) -> None:
    assert student_quantile(confidence, freedom) == pytest.approx(quantile, rel=1e-4)


def test_one_seed_gives_the_interval_over_episodes() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, EPISODES)
    assert over_seeds([values], 0.95, 0) == bootstrap(values, 0.95, 0)


def test_seeds_that_differ_give_students_interval_over_their_means() -> None:
    """Seeds at 0, 10, 20 without any noise."""
    interval = over_seeds([np.full(50, level) for level in (0.0, 10.0, 20.0)], 0.95, 0)
    assert interval.mean == pytest.approx(10.0)
    assert interval.ci_high - 10.0 == pytest.approx(4.30265 * 10.0 / np.sqrt(3), rel=1e-4)
    assert 10.0 - interval.ci_low == pytest.approx(interval.ci_high - 10.0)


def test_starts_that_all_seeds_share_are_not_counted_once_for_each() -> None:
    """All seeds alike: the starts of further seeds then say nothing new."""
    starts = np.random.default_rng(2).normal(0.0, 1.0, 400)
    interval = over_seeds([starts] * 4, 0.95, 0)
    expected = student_quantile(0.95, 399) * starts.std(ddof=1) / np.sqrt(400)
    assert interval.ci_high - interval.mean == pytest.approx(expected)


@pytest.mark.parametrize("episodes", [1, 2])
def test_few_episodes_are_no_obstacle(episodes: int) -> None:
    interval = over_seeds([np.full(episodes, level) for level in (1.0, 3.0)], 0.95, 0)
    assert interval.ci_low < interval.mean == 2.0 < interval.ci_high


@pytest.mark.parametrize("values", [[], [np.zeros(0)], [np.zeros(3), np.zeros(4)]])
def test_what_cannot_be_averaged_is_refused(values: list[Floats]) -> None:
    with pytest.raises(ValueError, match="episodes per training seed"):
        over_seeds(values, 0.95, 0)
