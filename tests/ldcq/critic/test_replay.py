"""Prioritised replay against the definitions of Schaul et al."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.config import ReplayConfig
from ldcq.critic.replay import PrioritisedReplay, beta_at, importance_weights

CONFIG = ReplayConfig(alpha=0.7, beta=0.3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_beta_grows_by_table_7() -> None:
    assert beta_at(CONFIG, 0) == beta_at(CONFIG, 2999) == pytest.approx(0.3)
    assert beta_at(CONFIG, 3000) == pytest.approx(0.33)
    assert beta_at(CONFIG, 60_000) == pytest.approx(0.9)
    assert beta_at(CONFIG, 200_000) == 1.0


def test_importance_weights() -> None:
    probabilities = np.array([0.5, 0.1, 0.01])
    expected = np.array([(10 * p) ** -0.4 for p in probabilities])
    np.testing.assert_allclose(
        importance_weights(probabilities, 10, 0.4), expected / expected[2], rtol=1e-6
    )
    np.testing.assert_array_equal(importance_weights(probabilities, 10, 0.0), np.ones(3))


def test_draws_follow_the_powers_of_td_errors() -> None:
    replay = PrioritisedReplay(CONFIG, 4)
    errors = np.array([-0.1, 0.4, 1.0, 2.0])
    replay.update(np.arange(4), errors)
    expected = np.abs(errors) ** 0.7
    expected /= expected.sum()
    draw = replay.draw(6000, 50_000, seeded())
    np.testing.assert_allclose(np.bincount(draw.indices) / 50_000, expected, atol=2e-3)
    weights = (4 * expected) ** -0.36
    np.testing.assert_allclose(draw.weights, (weights / weights.max())[draw.indices], rtol=1e-4)


def test_alpha_zero_is_uniform() -> None:
    replay = PrioritisedReplay(ReplayConfig(alpha=0.0), 8)
    replay.update(np.array([3]), np.array([100.0]))
    draw = replay.draw(0, 8, seeded())
    assert sorted(draw.indices) == list(range(8)), "one of each equal share"
    np.testing.assert_array_equal(draw.weights, np.ones(8))


def test_windows_not_used_yet_have_the_largest_priority_seen() -> None:
    replay = PrioritisedReplay(CONFIG, 5)
    replay.update(np.array([0, 1]), np.array([0.01, 0.5]))
    priorities = replay.state_dict()["priorities"]
    np.testing.assert_allclose(priorities[2:], priorities[1])
    replay.update(np.array([0]), np.array([2.0]))
    priorities = replay.state_dict()["priorities"]
    np.testing.assert_allclose(priorities[2:], priorities[0])
    assert priorities[1] < priorities[0]


def test_windows_not_used_yet_are_drawn_by_that_priority() -> None:
    replay = PrioritisedReplay(CONFIG, 5)
    replay.update(np.array([0, 3]), np.array([0.5, 2.0]))
    expected = np.array([0.5, 2, 2, 2, 2]) ** 0.7
    expected /= expected.sum()
    draw = replay.draw(6000, 50_000, seeded())
    np.testing.assert_allclose(np.bincount(draw.indices) / 50_000, expected, atol=2e-3)
    weights = (5 * expected) ** -0.36
    np.testing.assert_allclose(draw.weights, (weights / weights.max())[draw.indices], rtol=1e-4)


def test_a_restored_replay_draws_the_same() -> None:
    replay = PrioritisedReplay(CONFIG, 100)
    rng = np.random.default_rng(0)
    replay.update(rng.integers(0, 100, 60), rng.normal(size=60))
    restored = PrioritisedReplay(CONFIG, 100)
    restored.load_state_dict(replay.state_dict())
    for each in (
        replay,
        restored,
    ):  # Continue both: the largest priority and the unseen ones must agree as well.
        each.update(np.array([5, 6]), np.array([9.0, 0.0]))
    first, second = replay.draw(7, 64, seeded(1)), restored.draw(7, 64, seeded(1))
    np.testing.assert_array_equal(first.indices, second.indices)
    np.testing.assert_array_equal(first.weights, second.weights)


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 3 windows, expected 4"):
        PrioritisedReplay(CONFIG, 4).load_state_dict(PrioritisedReplay(CONFIG, 3).state_dict())
    with pytest.raises(ValueError, match="at least 1"):
        PrioritisedReplay(CONFIG, 0)
