"""Environments that one rollout after another plays in."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from typing import Any

import gymnasium

from services.actor.rollout import EnvFactory

Environment = gymnasium.Env[Any, Any]


class EnvironmentPool:
    """Makes environments where none is idle; closing one that it gave makes it idle.

    Building an environment may take longer than hundreds of its steps, and every episode begins
    with a seeded reset, in a new environment or in one that was played in before. Safe for threads.
    """

    def __init__(self, make_env: EnvFactory) -> None:
        self._make_env = make_env
        self._idle: SimpleQueue[Environment] = SimpleQueue()

    def make(self) -> Environment:
        """One for the caller alone, until it is closed."""
        try:
            env = self._idle.get_nowait()
        except Empty:
            env = self._make_env()
        return _Borrowed(env, self._idle)

    def close(self) -> None:
        """Closes those that are idle."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


class _Borrowed(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that goes back to its pool when it is closed."""

    def __init__(self, env: Environment, idle: SimpleQueue[Environment]) -> None:
        super().__init__(env)
        self._idle = idle
        self._returned = False

    def close(self) -> None:
        """Gives it back; again: nothing."""
        if not self._returned:
            self._returned = True
            self._idle.put(self.env)
