"""OGBench's npz files: flat arrays of steps, cut into trajectories by `terminals`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from common.data.archive import read_archive
from common.data.array_file import ArrayFile
from common.data.flattening import flat_actions
from common.data.ogbench import STATES, attempts, task_labels
from ldcq.data.episodes import Allocate, DataError, Episode, Episodes, join_episodes

REQUIRED = ("observations", "actions", "terminals")
OPTIONAL = ("rewards", "masks", "next_observations")


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
        arrays = self._arrays
        if self.task is not None:
            states = read_archive(self.path, STATES)
            arrays = {**arrays, **task_labels(self.task, states, self.name)}
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

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        arrays = read_archive(self.path, (*REQUIRED, *OPTIONAL))
        missing = [key for key in REQUIRED if key not in arrays]
        if missing:
            raise DataError(
                f"{self.name}: no {', '.join(missing)}; expected OGBench's arrays "
                f"{', '.join(REQUIRED)}, found {', '.join(arrays) or 'none of them'}"
            )
        return self._checked(arrays)


def _parts(arrays: dict[str, Any]) -> Iterator[slice]:
    """The steps of every episode: a trajectory, cut where the task is done."""
    rows = len(arrays["rewards"])
    going = arrays.get("masks", np.ones(rows)).reshape(-1) != 0
    ends = np.flatnonzero(arrays["terminals"]) + 1
    for start, end in pairwise(np.unique(np.concatenate([[0], ends, [rows]])).tolist()):
        stop = end if "next_observations" in arrays else end - 1
        for part in attempts(going[start:stop]):
            yield slice(start + part.start, start + part.stop)
