"""Scores of a set of episodes: true return, first hit, success, each with what it is and how sure
it is (section 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 4000
"""Bootstrap resamples; the interval's ends then move by well under a tenth of its width from seed
to seed."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over episodes and its bootstrap confidence interval."""

    mean: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Scores:
    """The scores of one method.

    Attributes:
        true_return: Normalised undiscounted return of whole episodes (raw where `normalised` is
            False).
        first_hit: The same when an episode ends at its first reward as if the agent then stayed;
            None where the task does not define it.
        success: Share of episodes with success; None where nothing says what that is.
        success_score: 100 times that, where it is the score; else None.
        normalised: Whether reference returns were known.
        episodes: How many episodes.
    """

    true_return: Estimate
    first_hit: Estimate | None
    success: float | None
    success_score: Estimate | None
    normalised: bool
    episodes: int


def episode_returns(rewards: Sequence[NDArray[np.floating]]) -> Floats:
    """Undiscounted sum of the rewards of each episode, shape (E,)."""
    return np.array([float(np.sum(episode, dtype=np.float64)) for episode in rewards])


def first_reward_steps(rewards: Sequence[NDArray[np.floating]]) -> NDArray[np.int64]:
    """The 0-based step of each episode's first positive reward, -1 where there is none, shape
    (E,).
    """
    steps = np.full(len(rewards), -1, dtype=np.int64)
    for index, episode in enumerate(rewards):
        hits = np.flatnonzero(np.asarray(episode) > 0)
        if hits.size:
            steps[index] = hits[0]
    return steps


def successes(
    said: Sequence[bool | None] | NDArray[np.bool_] | None,
    rewards: Sequence[NDArray[np.floating]],
    first_hit: bool,
) -> NDArray[np.bool_] | None:
    """Which episodes succeeded, shape (E,): those whose environment said so, or, where it says
    nothing, those with a reward in a task of first hits; None where neither is known.

    Args:
        said: What each episode's environment said, None where that is nothing.
        rewards: The rewards of each episode, shapes (T_i,).
        first_hit: Whether the task is one of first hits.
    """
    if said is not None and None not in said:
        return np.array(said, np.bool_)
    return first_reward_steps(rewards) >= 0 if first_hit else None


def first_hit_returns(first_steps: NDArray[np.int64], max_episode_steps: int) -> Floats:
    """What each episode would return had the agent stayed from its first reward on, at reward 1 a
    step.

    This is how the authors' release scores its mazes. It flatters a policy that passes through the
    goal, so it is reported under its own name beside the true return.

    Args:
        first_steps: 0-based step of the first reward, -1 for none, shape (E,).
        max_episode_steps: Steps of a whole episode.

    Returns:
        `max_episode_steps - first_step`, or 0 without any reward, shape (E,).
    """
    return np.where(first_steps >= 0, max_episode_steps - first_steps, 0).astype(np.float64)


def normalise(returns: Floats, reference: tuple[float, float] | None) -> Floats:
    """D4RL's score, 100 (R - min) / (max - min), of undiscounted returns R (E,) against the
    reference returns min and max; R itself without those.

    Raises:
        ValueError: The two reference returns are equal.
    """
    if reference is None:
        return returns
    low, high = reference
    if high == low:
        raise ValueError(f"reference_scores are both {low}, expected two different returns")
    return 100.0 * (returns - low) / (high - low)


def bootstrap(values: Floats, confidence: float, seed: int) -> Estimate:
    """The mean over episodes, and its percentile bootstrap interval; a point for one episode.

    Args:
        values: One value per episode, shape (E,).
        confidence: Coverage asked for, such as 0.95.
        seed: Seed of the resampling.

    Raises:
        ValueError: No values.
    """
    if values.size == 0:
        raise ValueError("no episodes to score, expected at least 1")
    generator = np.random.default_rng(seed)
    picks = generator.integers(values.size, size=(RESAMPLES, values.size))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values[picks].mean(axis=1), [tail, 1.0 - tail])
    return Estimate(float(values.mean()), float(low), float(high))


def score(
    rewards: Sequence[NDArray[np.floating]],
    *,
    reference: tuple[float, float] | None,
    first_hit: bool,
    max_episode_steps: int,
    confidence: float,
    seed: int,
    said: Sequence[bool | None] | None = None,
    by_success: bool = False,
) -> Scores:
    """Scores episodes.

    Args:
        rewards: The rewards of each episode, shapes (T_i,).
        reference: Returns that score 0 and 100; None leaves returns raw.
        first_hit: Whether the task defines first-hit scores.
        max_episode_steps: Steps of a whole episode.
        confidence: Coverage of the intervals.
        seed: Seed of the bootstrap.
        said: Whether each episode succeeded, as its environment says, or None where it says
            nothing.
        by_success: Whether the share of successes is the score (`evaluation.score`).

    Raises:
        ValueError: No episodes, or reference returns that are equal.
    """
    returns = normalise(episode_returns(rewards), reference)
    hit = None
    if first_hit:
        steps = first_reward_steps(rewards)
        hits = normalise(first_hit_returns(steps, max_episode_steps), reference)
        hit = bootstrap(hits, confidence, seed)
    success = success_score = None
    done = successes(said, rewards, first_hit)
    if done is not None:
        success = float(done.mean())
        if by_success:
            success_score = bootstrap(100.0 * done.astype(np.float64), confidence, seed)
    return Scores(
        true_return=bootstrap(returns, confidence, seed),
        first_hit=hit,
        success=success,
        success_score=success_score,
        normalised=reference is not None,
        episodes=len(rewards),
    )
