"""Environments that one rollout after another plays in, where it pays in several processes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from services.actor.environment_processes import EnvironmentProcesses
from services.actor.rollout import EnvFactory, one_process

WORTHWHILE = 30.0
"""Seconds of simulation from which on processes save more than the seconds that they take to
start."""
FEWEST = 4
"""Environments of a process at least: with fewer, messages would take the time that is saved."""
_STEPS = 20

Environments = VectorEnv[Any, Any, Any]


def worthwhile_processes(
    env: gymnasium.Env[Any, Any], make_env: EnvFactory, environments: int, steps: int
) -> int:
    """In how many processes environments are to be stepped; 1: in this one.

    A few steps are timed. The time decides only where environments are, and episodes are the same
    everywhere.

    Args:
        env: One of the environments; it is reset and stepped.
        make_env: What made it.
        environments: How many are stepped side by side.
        steps: Environment steps of the whole evaluation.
    """
    processes = min(len(os.sched_getaffinity(0)), environments // FEWEST)
    if processes < 2 or not _picklable(make_env):
        return 1
    return processes if steps * _step_seconds(env) > WORTHWHILE else 1


def _picklable(make_env: EnvFactory) -> bool:
    try:
        pickle.dumps(make_env)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _step_seconds(env: gymnasium.Env[Any, Any]) -> float:
    """The median: a first step may be slow."""
    env.action_space.seed(0)
    env.reset(seed=0)
    seconds = []
    for _ in range(_STEPS):
        action, begun = env.action_space.sample(), perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        seconds.append(perf_counter() - begun)
        if terminated or truncated:
            env.reset(seed=0)
    return float(np.median(seconds))


class EnvironmentPool:
    """Makes environments where none are idle; closing those that it gave makes them idle.

    Making environments may take longer than hundreds of their steps, and every episode begins with
    a seeded reset, in new environments or in some that were played in before. A pool serves
    rollouts of one task, all with the same number of environments. Safe for threads.
    """

    def __init__(self, processes: int = 1) -> None:
        """Environments are stepped in so many processes; 1: in this one."""
        self._processes = processes
        self._idle: SimpleQueue[Environments] = SimpleQueue()

    def take(self, make_env: EnvFactory, count: int, waiting: Callable[[], object]) -> Environments:
        """Environments for the caller alone, until they are closed; see `one_process`."""
        try:
            envs = self._idle.get_nowait()
        except Empty:
            if self._processes == 1:
                envs = one_process(make_env, count, waiting)
            else:
                envs = EnvironmentProcesses(make_env, count, self._processes, waiting)
        return _Borrowed(envs, self._idle)

    def close(self) -> None:
        """Closes those that are idle."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


class _Borrowed(VectorWrapper[Any, Any, Any, Any, Any]):
    """Environments that go back to their pool when they are closed, unless they failed."""

    def __init__(self, envs: Environments, idle: SimpleQueue[Environments]) -> None:
        super().__init__(envs)
        self._idle = idle
        self._returned = False

    def close(self, **_: Any) -> None:
        """Gives them back; again: nothing."""
        if not self._returned and not self.env.closed:
            self._idle.put(self.env)
        self._returned = True
