"""Small real data: a point that moves by its actions, under two behaviours."""

from __future__ import annotations

import numpy as np

from ldcq.data.episodes import Episode, Episodes, Spaces, join_episodes

HORIZON = 5


def continuous_episode(rng: np.random.Generator, steps: int, direction: int) -> Episode:
    """A point in the plane that circles the origin one way or the other, with a little noise."""
    angle = rng.uniform(0, 2 * np.pi) + direction * 0.5 * np.arange(steps)
    actions = 0.8 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    actions = (actions + 0.02 * rng.standard_normal(actions.shape)).clip(-1, 1)
    # Where it is tells where it moves, but for the direction.
    start = direction * 1.6 * np.array([[np.sin(angle[0]), -np.cos(angle[0])]])
    return _episode(rng, start, actions.astype(np.float32), actions)


def discrete_episode(rng: np.random.Generator, steps: int, direction: int) -> Episode:
    """Three actions, taken in rising or falling order."""
    indices = (rng.integers(3) + direction * np.arange(steps)) % 3
    moves = np.stack([np.cos(2 * np.pi * indices / 3), np.sin(2 * np.pi * indices / 3)], axis=1)
    start = rng.standard_normal((1, 2))
    return _episode(rng, start, indices[:, None].astype(np.int64), moves)


def _episode(
    rng: np.random.Generator, start: np.ndarray, actions: np.ndarray, moves: np.ndarray
) -> Episode:
    steps = len(actions)
    observations = np.concatenate([start, start + np.cumsum(moves, axis=0)]).astype(np.float32)
    ends = np.zeros(steps, np.bool_)
    terminated = bool(rng.random() < 0.5)
    final = ends.copy()
    final[-1] = True
    return Episode(
        observations=observations,
        actions=actions,
        rewards=rng.standard_normal(steps).astype(np.float32),
        terminations=final if terminated else ends,
        truncations=ends if terminated else final,
    )


def make_episodes(discrete: bool = False, count: int = 12, seed: int = 0) -> Episodes:
    """Episodes of 8 to 39 steps; even ones turn one way, odd ones the other."""
    rng = np.random.default_rng(seed)
    make = discrete_episode if discrete else continuous_episode
    parts = [make(rng, int(rng.integers(8, 40)), 1 if i % 2 else -1) for i in range(count)]
    spaces = Spaces.discrete(2, 3) if discrete else Spaces.box(2, [-1, -1], [1, 1])
    return join_episodes(parts, spaces, "synthetic")
