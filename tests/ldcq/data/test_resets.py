"""Resets that nothing marks are found by the data's own steps, and nothing else is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ldcq.data.episodes import Episode, Spaces, join_episodes
from ldcq.data.resets import jumps, suspicious_steps, usual_length

LENGTH = 50
ROUGH = [np.zeros((9, 2)), np.zeros((1, 2)), np.eye(9), np.arange(99.0)[:, None] % 50]


def recorded(episodes: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """A point with inertia that bounces off walls: position and velocity, shape (M, 4)."""
    random, rows = np.random.default_rng(seed), []
    for _ in range(episodes):
        position, velocity = random.uniform(-3, 3, 2), np.zeros(2)
        for _ in range(LENGTH):
            rows.append([*position, *velocity])
            velocity = 0.95 * velocity + 0.005 * random.normal(size=2)
            velocity = np.where(np.abs(position + velocity) > 3, -velocity, velocity)
            position = position + velocity
    return np.array(rows)


def test_resets_are_found_and_collisions_are_none() -> None:
    states = recorded(40)
    found = np.flatnonzero(jumps(states, np.ones(len(states) - 1, bool))) + 1
    true = np.arange(LENGTH, len(states), LENGTH)
    assert set(found) <= set(true)
    assert len(found) >= 0.9 * len(true)
    assert usual_length(found) == LENGTH


def test_what_is_marked_already_is_not_found_again() -> None:
    states = recorded(10)
    inside = np.ones(len(states) - 1, bool)
    inside[LENGTH - 1 :: LENGTH] = False
    assert not jumps(states, inside).any()


@pytest.mark.parametrize(
    "states", [np.zeros((9, 2)), np.zeros((1, 2)), np.eye(9), np.arange(9.0)[:, None] % 5]
)
def test_nothing_is_said_where_less_than_two_entries_are_smooth(
    states: npt.NDArray[np.float64],
) -> None:
    assert not jumps(states, np.ones(len(states) - 1, bool)).any()


def test_an_angle_that_wraps_is_no_reset() -> None:
    turned = np.cumsum(np.full(4000, 0.01))
    states = np.stack([turned % 1, np.sin(turned), np.cos(turned)], axis=1)
    assert not jumps(states, np.ones(len(states) - 1, bool)).any()


def test_a_suspicious_step_is_named_by_its_episode() -> None:
    states = recorded(6).astype(np.float32)
    parts = []
    for rows in (states[:LENGTH], states[LENGTH : 3 * LENGTH], states[3 * LENGTH :]):
        steps = len(rows) - 1
        flags = np.zeros(steps, bool)
        parts.append(Episode(rows, np.zeros((steps, 1)), np.zeros(steps), flags, flags))
    episodes = join_episodes(parts, Spaces.box(4, [-1.0], [1.0]), "data")
    expected = {(1, LENGTH - 1), (2, LENGTH - 1), (2, 2 * LENGTH - 1)}
    assert set(suspicious_steps(episodes)) == expected


def test_lengths_that_differ_are_no_usual_length() -> None:
    assert usual_length(np.array([3, 10, 12, 30])) is None
    assert usual_length(np.array([], np.int64)) is None
