import numpy as np
import pytest

from experiments.evaluations import hierarchical_bootstrap
from services.actor.scores import bootstrap


def test_one_seed_gives_the_interval_over_episodes() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 100)
    ours = hierarchical_bootstrap([values], 0.95, 0)
    plain = bootstrap(values, 0.95, 0)
    assert ours.mean == pytest.approx(plain.mean)
    assert ours.ci_low == pytest.approx(plain.ci_low, abs=0.05)
    assert ours.ci_high == pytest.approx(plain.ci_high, abs=0.05)


def test_seeds_that_differ_widen_it_as_their_variance_says() -> None:
    """Seeds at 0, 10, .. without any noise: resampled means vary by the variance of K draws."""
    levels = np.arange(20) * 10.0
    interval = hierarchical_bootstrap([np.full(50, level) for level in levels], 0.95, 0)
    sigma = levels.std() / np.sqrt(len(levels))
    assert interval.mean == pytest.approx(levels.mean())
    assert interval.ci_high - interval.mean == pytest.approx(1.96 * sigma, rel=0.05)
    assert interval.mean - interval.ci_low == pytest.approx(1.96 * sigma, rel=0.05)


def test_starts_that_all_seeds_share_are_not_counted_once_for_each() -> None:
    """All seeds alike: the starts of further seeds then say nothing new."""
    starts = np.random.default_rng(2).normal(0.0, 1.0, 400)
    interval = hierarchical_bootstrap([starts] * 4, 0.95, 0)
    sigma = starts.std() / np.sqrt(400)
    assert (interval.ci_high - interval.ci_low) / 2 == pytest.approx(1.96 * sigma, rel=0.08)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(100):
        starts = generator.normal(0, 1, 30)
        values = [starts + generator.normal(0, 1) + generator.normal(0, 1, 30) for _ in range(12)]
        interval = hierarchical_bootstrap(values, 0.9, trial)
        covered += interval.ci_low <= 0.0 <= interval.ci_high
    assert 0.78 <= covered / 100 <= 0.98


@pytest.mark.parametrize("values", [[], [np.zeros(0)], [np.zeros(3), np.zeros(4)]])
def test_what_cannot_be_averaged_is_refused(values: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="episodes per training seed"):
        hierarchical_bootstrap(values, 0.95, 0)
