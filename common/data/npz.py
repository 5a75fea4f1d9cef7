"""OGBench's npz files: flat arrays of steps, cut into trajectories by `terminals`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any
from zipfile import BadZipFile

import numpy as np

from common.data.array_file import ArrayFile
from common.data.flattening import flat_actions
from ldcq.data.episodes import Allocate, DataError, Episode, Episodes, join_episodes

REQUIRED = ("observations", "actions", "terminals")
OPTIONAL = ("rewards", "masks", "next_observations")
STATES = ("qpos", "button_states")
"""What OGBench tells rewards of a task from."""


@dataclass(frozen=True)
class NpzFile(ArrayFile):
    """An OGBench file.

    `terminals` mark the last row of a trajectory. A file with `next_observations` has a row for
    every action; in one without, as OGBench publishes them, the last row of a trajectory is where
    it ended, and its action was never seen to lead anywhere. A row whose `masks` are 0 is a state
    where the task is done: its step ends an episode, and where the trajectory goes on to other
    states, another episode begins.

    The published files are of no task. Their rewards and masks are those of a single-task
    environment of OGBench, told from the simulator's states in the file.

    Attributes:
        task: Gymnasium id of that environment; None: rewards are in the file.
    """

    task: str | None = None

    def read(self, allocate: Allocate = np.empty) -> Episodes:
        """All trajectories, in arrays that `allocate` makes.

        Raises:
            DataError: An array is missing or of another length, a value is not finite, or what
                tells the rewards of `task` is not there.
        """
        arrays = self._arrays if self.task is None else {**self._arrays, **self._labels(self.task)}
        if "rewards" not in arrays:
            raise DataError(
                f"{self.name}: no rewards; expected them, or data.reward={{kind: ogbench, task: "
                "ID} with the id of one of OGBench's tasks (scene-singletask-task1-v0)"
            )
        parts = list(_parts(arrays))
        most = len(parts), sum(steps.stop - steps.start for steps in parts)
        episodes = (self._episode(arrays, steps) for steps in parts)
        return join_episodes(episodes, self.spaces, self.name, most=most, allocate=allocate)

    def _episode(self, arrays: dict[str, Any], steps: slice) -> Episode:
        if "next_observations" in arrays:
            last = arrays["next_observations"][steps.stop - 1 : steps.stop]
            observations = np.concatenate([arrays["observations"][steps], last])
        else:
            observations = arrays["observations"][steps.start : steps.stop + 1]
        rewards = arrays["rewards"][steps].reshape(-1)
        terminations, truncations = np.zeros((2, len(rewards)), np.bool_)
        ended = "masks" in arrays and not arrays["masks"][steps.stop - 1]
        (terminations if ended else truncations)[-1] = True
        return Episode(
            self.flattening.vectors(observations),
            flat_actions(arrays["actions"][steps], self.spaces),
            rewards,
            terminations,
            truncations,
            frames=self.flattening.frames(observations) if self.spaces.frames else None,
        )

    def _labels(self, task: str) -> dict[str, Any]:
        """Rewards and masks of a task, by OGBench's own rule."""
        if importlib.util.find_spec("ogbench") is None:
            raise DataError(f"data.reward.task: {task} needs ogbench: pip install 'ldcq[ogbench]'")
        from ogbench.relabel_utils import relabel_dataset

        from common.data.flat_environment import make_registered

        labels = dict(self._load(STATES))
        if "qpos" not in labels:
            raise DataError(
                f"{self.name}: no qpos; expected the simulator's states, to tell the rewards of "
                f"{task}, or rewards in the file and no data.reward.task"
            )
        environment = make_registered(f"ogbench:{task}", None)
        try:
            environment.reset(seed=0)
            info = environment.step(environment.action_space.sample())[4]
            given, expected = labels["qpos"].shape[1:], np.shape(info["qpos"])
            if given != expected:
                raise ValueError(f"qpos of {given[0]} entries, expected {expected[0]}")
            relabel_dataset(task, environment, labels)
        except (AssertionError, KeyError, ValueError) as error:
            raise DataError(
                f"data.reward.task: {task} does not go with the states in {self.name} ({error}); "
                "expected one of OGBench's single-task ids, of the same environment"
            ) from error
        finally:
            environment.close()
        return {key: labels[key] for key in ("rewards", "masks")}

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        arrays = dict(self._load((*REQUIRED, *OPTIONAL)))
        missing = [key for key in REQUIRED if key not in arrays]
        if missing:
            raise DataError(
                f"{self.name}: no {', '.join(missing)}; expected OGBench's arrays "
                f"{', '.join(REQUIRED)}, found {', '.join(arrays) or 'none of them'}"
            )
        rows = len(arrays["observations"])
        for key, values in arrays.items():
            if values.shape[:1] != (rows,):
                raise DataError(
                    f"{self.name}: {key} have shape {values.shape}, expected {rows} rows as "
                    "observations"
                )
        if not rows:
            raise DataError(f"{self.name}: holds no steps")
        return arrays

    def _load(self, keys: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                yield from ((key, file[key]) for key in keys if key in file)
        except (OSError, ValueError, BadZipFile, AttributeError, TypeError) as error:
            raise DataError(
                f"{self.name}: not a NumPy archive (.npz) of arrays ({error})"
            ) from error


def _parts(arrays: dict[str, Any]) -> Iterator[slice]:
    """The steps of every episode: a trajectory, cut where the task is done. Further steps from
    states where it is done are left out, as nobody acts there in this task.
    """
    rows = len(arrays["rewards"])
    going = arrays.get("masks", np.ones(rows)).reshape(-1) != 0
    ends = np.flatnonzero(arrays["terminals"]) + 1
    for start, end in pairwise(np.unique(np.concatenate([[0], ends, [rows]])).tolist()):
        stop = end if "next_observations" in arrays else end - 1
        done = start + 1 + np.flatnonzero(~going[start:stop])
        for first, last in pairwise(np.unique([start, *done, stop]).tolist()):
            if first == start or going[first] or going[first - 1]:
                yield slice(first, last)
