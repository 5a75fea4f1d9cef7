"""Episodes that several processes play, kept on disk until all are there.

Episode i is a function of (seed, i) alone, so that the number of processes changes nothing, and a
generation that was interrupted goes on with the episodes that it has.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import fields, replace
from functools import cache
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from common.data.archive import read_archive
from common.data.minari_writing import Array, EpisodeArrays, Recording
from common.store.files import replace_atomically
from ldcq.data.episodes import DataError

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.envs.registration import EnvSpec

SEPARATOR = "/"
"""Between the name of a field and a key of it, in the names of arrays on disk."""


class Player(Protocol):
    """Plays episodes, one after the other; made once in every process."""

    @property
    def environment(self) -> gymnasium.Env[Any, Any]:
        """Its spaces are those of the episodes."""
        ...

    @property
    def evaluation(self) -> EnvSpec:
        """How the environment is made that a policy is evaluated in."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """What a dataset says of the agent: `algorithm_name` and `description`."""
        ...

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        """One whole episode, a function of `seed` alone."""
        ...


def played(
    make_player: Callable[[Any], Player],
    settings: Any,
    folder: Path,
    on_progress: Callable[[int, int], None],
) -> Recording:
    """The dataset of such episodes, which are played while it is written; see `play`."""
    player = make_player(settings)
    episodes = play(make_player, settings, folder, on_progress)
    return Recording(episodes, player.environment, player.evaluation, player.metadata)


def play(
    make_player: Callable[[Any], Player],
    settings: Any,
    folder: Path,
    on_progress: Callable[[int, int], None],
    processes: int | None = None,
) -> Iterator[EpisodeArrays]:
    """Episodes in their order, the last one cut off where the steps end.

    Args:
        make_player: A function or class of a module, which other processes import.
        settings: What it is called with; has `steps` and `seed`.
        folder: Where finished episodes are kept, one file each; those found there are not played.
        on_progress: Called after every episode with the steps made and the steps wanted.
        processes: That play side by side; None: one for every core.
    """
    folder.mkdir(parents=True, exist_ok=True)
    workers = processes or len(os.sched_getaffinity(0))
    spawn = multiprocessing.get_context("spawn")  # a fork would share the simulators' threads
    pool = ProcessPoolExecutor(workers, spawn, initializer=_follow_parent)
    ahead: dict[int, Future[None]] = {}
    done = longest = 0
    try:
        for index in count():
            left = settings.steps - done
            for later in range(index, index + 2 * workers):
                needed = (later - index) * longest < left  # as far as can be told
                if needed and later not in ahead and not _file(folder, later).exists():
                    ahead[later] = pool.submit(_keep, make_player, settings, folder, later)
            if index in ahead:
                ahead[index].result()
            try:
                episode = _load(_file(folder, index))
            except DataError:  # kept by an earlier call, and damaged since
                pool.submit(_keep, make_player, settings, folder, index).result()
                episode = _load(_file(folder, index))
            longest = max(longest, len(episode.rewards))
            yield _first(episode, left)
            done += min(len(episode.rewards), left)
            on_progress(done, settings.steps)
            if done == settings.steps:
                return
    finally:
        pool.shutdown(cancel_futures=True)


def whole_episode(
    environment: gymnasium.Env[Any, Any], observation: Any, act: Callable[[Any, int], Array]
) -> EpisodeArrays:
    """An episode up to its end, or to the time limit.

    Args:
        environment: Was reset.
        observation: That of the reset, an array or a dictionary of arrays.
        act: From an observation, and the steps made, to an action (A,) that is within the limits.
    """
    observations, ended, cut = [observation], False, False
    actions: list[Array] = []
    rewards: list[float] = []
    while not (ended or cut):
        actions.append(act(observation, len(actions)))
        observation, reward, ended, cut, _ = environment.step(actions[-1])
        observations.append(observation)
        rewards.append(float(reward))
    last = np.arange(len(actions)) == len(actions) - 1
    return EpisodeArrays(
        observations={key: np.asarray([each[key] for each in observations]) for key in observation}
        if isinstance(observation, dict)
        else np.asarray(observations),
        actions=np.asarray(actions),
        rewards=np.asarray(rewards),
        terminations=last & ended,
        truncations=last & (not ended),
    )


def _follow_parent() -> None:
    """Ctrl-C reaches all processes of a terminal: the first one ends the others. Where that one is
    killed, they end as well; left alone, they would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a process of the pool"

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end_with_parent, daemon=True).start()


@cache
def _player(make_player: Callable[[Any], Player], settings: Any) -> Player:
    return make_player(settings)


def _keep(make_player: Callable[[Any], Player], settings: Any, folder: Path, index: int) -> None:
    """Plays an episode in a process of its own and keeps it."""
    seed = np.random.SeedSequence(settings.seed, spawn_key=(index,))
    episode = _player(make_player, settings).episode(seed)
    arrays: dict[str, Any] = {}
    for field in fields(episode):
        value = getattr(episode, field.name)
        if isinstance(value, dict):
            arrays |= {f"{field.name}{SEPARATOR}{key}": part for key, part in value.items()}
        elif value is not None:
            arrays[field.name] = value
    with io.BytesIO() as file:
        np.savez(file, allow_pickle=False, **arrays)
        replace_atomically(_file(folder, index), file.getvalue())


def _load(file: Path) -> EpisodeArrays:
    whole: dict[str, Any] = {}
    for name, values in read_archive(file).items():
        field, _, key = name.partition(SEPARATOR)
        if key:
            whole.setdefault(field, {})[key] = values
        else:
            whole[field] = values
    return EpisodeArrays(**whole)


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:07d}.npz"


def _first(episode: EpisodeArrays, steps: int) -> EpisodeArrays:
    """The episode up to so many steps; cut off there if it has more."""
    if len(episode.rewards) <= steps:
        return episode

    def upto(values: Any, rows: int) -> Any:
        if isinstance(values, dict):
            return {key: value[:rows] for key, value in values.items()}
        return None if values is None else values[:rows]

    short = {
        field.name: upto(
            getattr(episode, field.name),
            steps + (field.name in ("observations", "infos")),
        )
        for field in fields(episode)
    }
    last = np.arange(steps) == steps - 1
    return replace(EpisodeArrays(**short), truncations=last & ~short["terminations"])
