"""Environments that are stepped in several processes."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from common.data.flat_environment import GOAL, SUCCESS
from services.actor.rollout import Array, EnvFactory, one_process

_PATIENCE = 0.2
"""Seconds between two calls of `waiting`."""
_GRACE = 2.0
"""Seconds that processes have to close their environments; then they are killed."""
_TOLD = (SUCCESS, f"_{SUCCESS}", GOAL, f"_{GOAL}")


class EnvironmentProcessError(RuntimeError):
    """An environment raised in its process, or a process ended by itself."""


@dataclass(frozen=True)
class _Failure:
    """The reply of a process in which an environment raised."""

    trace: str


class EnvironmentProcesses(VectorEnv[Any, Array, Array]):
    """E environments in P processes, each of which steps a slice of them one after the other.

    It is stepped and reset as Gymnasium's `SyncVectorEnv` without autoreset, with the same results;
    its `info` has only what a rollout reads, `SUCCESS` and `GOAL`, each with its mask. For one
    thread. After an error it is closed.
    """

    def __init__(
        self,
        make_env: EnvFactory,
        count: int,
        processes: int,
        waiting: Callable[[], object] = lambda: None,
    ) -> None:
        """Starts the processes and waits until their environments are made.

        Args:
            make_env: Makes one environment; can be pickled.
            count: E.
            processes: P, from 1 to E.
            waiting: Called now and then meanwhile; what it raises ends the processes.

        Raises:
            EnvironmentProcessError: An environment cannot be made there, or a process ended.
        """
        spawn = multiprocessing.get_context("spawn")  # a fork would share the simulators' threads
        bounds = np.linspace(0, count, processes + 1).astype(int).tolist()
        self.num_envs = count
        self._slices = [slice(*ends) for ends in pairwise(bounds)]
        self._workers: list[tuple[BaseProcess, Connection]] = []
        try:
            for part in self._slices:
                waiting()
                ours, theirs = spawn.Pipe()
                arguments = theirs, make_env, part.stop - part.start
                process = spawn.Process(target=_serve, args=arguments, daemon=True)
                process.start()
                theirs.close()  # so that a process that has ended closes the pipe
                self._workers.append((process, ours))
            for _, pipe in self._workers:
                while not pipe.poll(_PATIENCE):
                    waiting()
            self.single_action_space = self._replies(range(processes))[0]
        except BaseException:
            self.close()
            raise
        self._observations: list[Any] = [None] * processes

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all environments, or those of `options["reset_mask"]` (E,), from seeds (E,).

        Raises:
            EnvironmentProcessError: An environment raised, or a process ended.
        """
        calls = {}
        for place, part in enumerate(self._slices):
            own = options
            if options is not None and "reset_mask" in options:
                own = {**options, "reset_mask": options["reset_mask"][part]}
                if not own["reset_mask"].any():
                    continue
            calls[place] = {"seed": None if seed is None else seed[part], "options": own}
        replies = self._call("reset", calls)
        for place, (observations, _) in replies.items():
            self._observations[place] = observations
        told = [replies[place][1] if place in replies else {} for place in range(len(self._slices))]
        return _joined(self._observations), self._info(told)

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """One step of every environment, with actions of leading axis E.

        Raises:
            EnvironmentProcessError: An environment raised, or a process ended.
        """
        calls = {place: {"actions": actions[part]} for place, part in enumerate(self._slices)}
        found = zip(*self._call("step", calls).values(), strict=True)
        observations, rewards, terminations, truncations, told = map(list, found)
        self._observations = observations
        ended = np.concatenate(terminations), np.concatenate(truncations)
        return _joined(observations), np.concatenate(rewards), *ended, self._info(told)

    def close_extras(self, **_: Any) -> None:
        """Ends the processes, which close their environments if they do so soon."""
        for _process, pipe in self._workers:
            pipe.close()
        until = monotonic() + _GRACE
        for process, _pipe in self._workers:
            process.join(max(0.0, until - monotonic()))
            process.kill()
            process.join()

    def _call(self, name: str, calls: Mapping[int, Mapping[str, Any]]) -> dict[int, Any]:
        """The replies of the processes that are called with these arguments, by their places."""
        for place, arguments in calls.items():
            try:
                self._workers[place][1].send((name, arguments))
            except ConnectionError:
                raise self._ended(place) from None
        return dict(zip(calls, self._replies(calls), strict=True))

    def _replies(self, places: Sequence[int] | Mapping[int, Any]) -> list[Any]:
        replies = []
        for place in places:
            try:
                reply = self._workers[place][1].recv()
            except (EOFError, ConnectionError):
                raise self._ended(place) from None
            if isinstance(reply, _Failure):
                self.close()
                raise EnvironmentProcessError(
                    f"an environment raised in its process\n{reply.trace}"
                )
            replies.append(reply)
        return replies

    def _ended(self, place: int) -> EnvironmentProcessError:
        process = self._workers[place][0]
        process.join(_GRACE)
        code = process.exitcode
        self.close()
        return EnvironmentProcessError(
            f"a process of {len(self._workers)} that step the environments ended with exit code "
            f"{code}; expected it to run until the evaluation ends; -9 is how the system ends one "
            "when memory runs out: a smaller evaluation.environments needs less"
        )

    def _info(self, told: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
        """What the slices told; blank and masked for environments that told nothing."""
        info: dict[str, Array] = {}
        for key in _TOLD:
            known = [part[key] for part in told if key in part]
            if known:
                blank = np.zeros((self.num_envs, *known[0].shape[1:]), known[0].dtype)
                for place, part in zip(self._slices, told, strict=True):
                    blank[place] = part.get(key, blank[place])
                info[key] = blank
        return info


def _serve(pipe: Connection, make_env: EnvFactory, count: int) -> None:
    """What a process does: makes its environments and answers until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the first one ends this one
    made: list[VectorEnv[Any, Any, Any]] = []

    def make() -> Any:
        made.append(one_process(make_env, count))
        return made[0].single_action_space

    with suppress(EOFError, ConnectionError):
        _answer(pipe, make)
        while True:
            name, arguments = pipe.recv()
            _answer(pipe, lambda: _result(getattr(made[0], name)(**arguments)))  # noqa: B023
    for envs in made:
        envs.close()


def _answer(pipe: Connection, call: Callable[[], Any]) -> None:
    try:
        reply = call()
    except Exception:  # whatever an environment raises
        reply = _Failure(traceback.format_exc())
    pipe.send(reply)


def _result(found: tuple[Any, ...]) -> tuple[Any, ...]:
    *rest, info = found
    return *rest, {key: info[key] for key in _TOLD if key in info}


def _joined(parts: Sequence[Any]) -> Any:
    """Observations of slices, arrays or dictionaries of such, as those of all environments."""
    if isinstance(parts[0], dict):
        return {key: _joined([part[key] for part in parts]) for key in parts[0]}
    return np.concatenate(parts)
