"""Scores against plain loops over the rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.actor.scores import (
    bootstrap,
    episode_returns,
    first_hit_returns,
    first_reward_steps,
    normalise,
    score,
)

MAX_STEPS = 40


def _rewards(seed: int = 0, episodes: int = 30) -> list[np.ndarray]:
    """Sparse rewards, some episodes without any, some cut short."""
    random = np.random.default_rng(seed)
    lengths = random.integers(MAX_STEPS // 2, MAX_STEPS + 1, episodes)
    return [(random.random(n) < random.choice([0.0, 0.1])).astype(np.float32) for n in lengths]


def test_returns_and_first_hits_equal_a_loop() -> None:
    rewards = _rewards()
    for index, episode in enumerate(rewards):
        total, first = 0.0, None
        for step, reward in enumerate(episode):
            total += float(reward)
            if reward > 0 and first is None:
                first = step
        hit = 0.0 if first is None else sum(1.0 for _ in range(first, MAX_STEPS))
        assert episode_returns(rewards)[index] == total
        assert first_reward_steps(rewards)[index] == (-1 if first is None else first)
        assert first_hit_returns(first_reward_steps(rewards), MAX_STEPS)[index] == hit


def test_score_of_an_agent_that_stays_is_the_same_by_both_conventions() -> None:
    stays = [np.r_[np.zeros(k), np.ones(MAX_STEPS - k)] for k in (0, 3, 17)]
    scores = score(
        stays,
        reference=(10.0, 35.0),
        first_hit=True,
        max_episode_steps=MAX_STEPS,
        confidence=0.9,
        seed=0,
    )
    assert scores.first_hit == scores.true_return
    assert scores.true_return.mean == pytest.approx(
        100 * (np.mean([MAX_STEPS - k for k in (0, 3, 17)]) - 10) / 25
    )
    assert scores.success == 1.0


def test_passing_through_the_goal_separates_the_conventions() -> None:
    passes = [np.zeros(MAX_STEPS) for _ in range(4)]
    for episode in passes[:3]:
        episode[10] = 1.0
    scores = score(
        passes, reference=None, first_hit=True, max_episode_steps=MAX_STEPS, confidence=0.9, seed=0
    )
    assert scores.true_return.mean == pytest.approx(0.75)
    assert scores.first_hit is not None
    assert scores.first_hit.mean == pytest.approx(0.75 * 30)
    assert scores.success == 0.75
    assert not scores.normalised


def test_a_task_without_first_hit_has_neither_it_nor_success() -> None:
    scores = score(
        _rewards(),
        reference=(0.0, 1.0),
        first_hit=False,
        max_episode_steps=MAX_STEPS,
        confidence=0.9,
        seed=0,
    )
    assert scores.first_hit is None
    assert scores.success is None
    assert scores.normalised


def test_success_is_what_the_environment_says_else_a_first_hit() -> None:
    rewards = [np.zeros(MAX_STEPS) for _ in range(4)]
    rewards[0][3] = 1.0
    settings: dict[str, Any] = {"reference": None, "max_episode_steps": MAX_STEPS, "seed": 0}
    settings |= {"confidence": 0.9}
    said = [True, True, False, True]
    scores = score(rewards, first_hit=True, said=said, by_success=True, **settings)
    assert scores.success == 0.75
    assert scores.success_score is not None
    assert scores.success_score.mean == 75.0
    assert 0 <= scores.success_score.ci_low < 75.0 < scores.success_score.ci_high <= 100
    assert score(rewards, first_hit=False, said=said, **settings).success_score is None
    silent = score(rewards, first_hit=True, said=[None] * 4, by_success=True, **settings)
    assert silent.success == 0.25
    unknown = score(rewards, first_hit=False, said=[None] * 4, by_success=True, **settings)
    assert (unknown.success, unknown.success_score) == (None, None)


def test_normalise_maps_the_references_to_0_and_100() -> None:
    values = np.array([13.13, 277.39, 145.26])
    np.testing.assert_allclose(normalise(values, (13.13, 277.39)), [0.0, 100.0, 50.0])
    np.testing.assert_array_equal(normalise(values, None), values)
    with pytest.raises(ValueError, match="both 3"):
        normalise(values, (3.0, 3.0))


def test_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    trials = 300
    for trial in range(trials):
        estimate = bootstrap(random.exponential(2.0, 60), 0.9, seed=trial)
        assert estimate.ci_low <= estimate.mean <= estimate.ci_high
        covered += estimate.ci_low <= 2.0 <= estimate.ci_high
    assert 0.82 < covered / trials < 0.95


def test_bootstrap_repeats_with_its_seed_and_narrows_with_episodes() -> None:
    values = np.random.default_rng(0).normal(size=400)
    assert bootstrap(values, 0.95, 7) == bootstrap(values, 0.95, 7)
    assert bootstrap(values, 0.95, 7) != bootstrap(values, 0.95, 8)
    few, many = bootstrap(values[:25], 0.95, 0), bootstrap(values, 0.95, 0)
    assert many.ci_high - many.ci_low < 0.5 * (few.ci_high - few.ci_low)
    with pytest.raises(ValueError, match="no episodes"):
        bootstrap(values[:0], 0.95, 0)
