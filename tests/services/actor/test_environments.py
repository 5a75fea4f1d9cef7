"""Environments are built once and played in again and again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from services.actor.environments import EnvironmentPool
from services.actor.rollout import Episode, rollout
from tests.services.actor.test_rollout import LIMIT, Agent, Drift


class Workshop:
    """Makes environments, and knows which of them are open."""

    def __init__(self) -> None:
        self.made: list[Drift] = []
        self.closed: list[Drift] = []

    def make(self) -> Drift:
        env = Drift()
        env.close = lambda: self.closed.append(env)  # type: ignore[method-assign]
        self.made.append(env)
        return env


def _play(make_env: Any, seed: int, environments: int = 3) -> list[Episode]:
    arguments: Any = {"episodes": 7, "environments": environments, "seed": seed}
    return list(rollout(make_env, Agent(), max_episode_steps=LIMIT, **arguments))


def test_episodes_in_used_environments_are_those_in_new_ones() -> None:
    workshop = Workshop()
    pool = EnvironmentPool(workshop.make)
    for seed in (5, 50, 5):
        played = _play(pool.make, seed)
        for episode, expected in zip(played, _play(Drift, seed), strict=True):
            assert episode.index == expected.index
            np.testing.assert_array_equal(episode.rewards, expected.rewards)
    assert len(workshop.made) == 3
    assert not workshop.closed


def test_closing_the_pool_closes_every_environment_once() -> None:
    workshop = Workshop()
    pool = EnvironmentPool(workshop.make)
    first, second = pool.make(), pool.make()
    for env in (first, first, second):
        env.close()
    assert not workshop.closed
    pool.close()
    pool.close()
    assert len(workshop.closed) == 2
    assert set(map(id, workshop.closed)) == set(map(id, workshop.made))


def test_nobody_shares_an_environment() -> None:
    workshop = Workshop()
    pool = EnvironmentPool(workshop.make)
    with ThreadPoolExecutor(4) as threads:
        played = list(threads.map(lambda seed: _play(pool.make, seed), range(12)))
    for seed, episodes in enumerate(played):
        for episode, expected in zip(episodes, _play(Drift, seed), strict=True):
            np.testing.assert_array_equal(episode.rewards, expected.rewards)
    assert len(workshop.made) <= 4 * 3


def test_a_rollout_that_fails_gives_its_environments_back() -> None:
    workshop = Workshop()
    pool = EnvironmentPool(workshop.make)
    agent = Mock(act=Mock(side_effect=RuntimeError("no prior")))
    arguments: Any = {"episodes": 3, "environments": 3, "seed": 0, "max_episode_steps": LIMIT}
    with pytest.raises(RuntimeError, match="no prior"):
        list(rollout(pool.make, agent, **arguments))
    pool.close()
    assert len(workshop.closed) == len(workshop.made) == 3
