"""Environments are built once and played in again and again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from services.actor import environments
from services.actor.environments import FEWEST, EnvironmentPool, worthwhile_processes
from services.actor.rollout import Episode, MakeEnvironments, one_process, rollout
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


def _play(
    make_env: Any, seed: int, environments: int = 3, make: MakeEnvironments = one_process
) -> list[Episode]:
    arguments: Any = {"episodes": 7, "environments": environments, "seed": seed}
    arguments |= {"max_episode_steps": LIMIT, "make_environments": make}
    return list(rollout(make_env, Agent(), **arguments))


def _nothing() -> None:
    """Called while environments are made."""


def test_episodes_in_used_environments_are_those_in_new_ones() -> None:
    workshop = Workshop()
    pool = EnvironmentPool()
    for seed in (5, 50, 5):
        played = _play(workshop.make, seed, make=pool.take)
        for episode, expected in zip(played, _play(Drift, seed), strict=True):
            assert episode.index == expected.index
            np.testing.assert_array_equal(episode.rewards, expected.rewards)
    assert len(workshop.made) == 3
    assert not workshop.closed


def test_closing_the_pool_closes_every_environment_once() -> None:
    workshop = Workshop()
    pool = EnvironmentPool()
    first, second = (pool.take(workshop.make, 2, _nothing) for _ in range(2))
    for envs in (first, first, second):
        envs.close()
    assert not workshop.closed
    pool.close()
    pool.close()
    assert len(workshop.closed) == 4
    assert set(map(id, workshop.closed)) == set(map(id, workshop.made))


def test_nobody_shares_an_environment() -> None:
    workshop = Workshop()
    pool = EnvironmentPool()
    with ThreadPoolExecutor(4) as threads:
        played = list(
            threads.map(lambda seed: _play(workshop.make, seed, make=pool.take), range(12))
        )
    for seed, episodes in enumerate(played):
        for episode, expected in zip(episodes, _play(Drift, seed), strict=True):
            np.testing.assert_array_equal(episode.rewards, expected.rewards)
    assert len(workshop.made) <= 4 * 3


def test_a_rollout_that_fails_gives_its_environments_back() -> None:
    workshop = Workshop()
    pool = EnvironmentPool()
    agent = Mock(act=Mock(side_effect=RuntimeError("no prior")))
    arguments: Any = {"episodes": 3, "environments": 3, "seed": 0, "max_episode_steps": LIMIT}
    with pytest.raises(RuntimeError, match="no prior"):
        list(rollout(workshop.make, agent, **arguments, make_environments=pool.take))
    pool.close()
    assert len(workshop.closed) == len(workshop.made) == 3


def test_processes_are_for_much_work_on_several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 0.001
    monkeypatch.setattr(environments, "_step_seconds", lambda _: seconds)

    def found(cores: int, count: int, steps: int, make_env: Any = Drift) -> int:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
        return worthwhile_processes(make_env(), make_env, count, steps)

    enough = int(environments.WORTHWHILE / seconds) + 1
    assert found(2, 50, enough) == 2
    assert found(2, 50, enough - 2) == 1
    assert found(1, 50, enough) == 1
    assert found(64, 50, enough) == 50 // FEWEST
    assert found(2, FEWEST, enough) == 1
    assert found(2, 50, enough, lambda: Drift()) == 1, "a lambda cannot be sent to a process"


def test_the_time_of_a_step_is_measured_beyond_the_ends_of_episodes() -> None:
    assert 0 < environments._step_seconds(Drift()) < 1
