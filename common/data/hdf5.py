"""D4RL's HDF5 files: flat arrays of steps, cut into episodes by `terminals` and `timeouts`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.array_file import ArrayFile
from common.data.flattening import flat_actions
from ldcq.data.episodes import Allocate, DataError, Episode, Episodes, join_episodes
from ldcq.data.resets import jumps, usual_length

logger = logging.getLogger(__name__)
REQUIRED = ("observations", "actions", "rewards", "terminals")
ROUNDING = 1e-5
"""How far, relative and absolute, the same observation may be from itself in two arrays."""
CHUNK_CACHE_BYTES = 1 << 26
"""Of an array's chunks, whatever their size, each should be decompressed once only."""


@dataclass(frozen=True)
class Hdf5File(ArrayFile):
    """A D4RL file.

    Such files hold one observation per action. The observation after an episode's last action comes
    from `next_observations` where the file has it. Where it has not, an episode that was cut loses
    its last action, so that what follows an action was seen. An episode that terminated keeps it,
    for its reward: its last observation is repeated and marked as not seen (`Episodes.ends_seen`),
    so that nothing is bootstrapped from there and no model learns it as a next state.

    Where `timeouts` are absent, incomplete or shifted, resets are found: rows whose
    `next_observations` are not the next row, or without these, steps that are far larger than usual
    (`ldcq.data.resets`). What was found is a warning.

    Attributes:
        episode_steps: Episodes are cut after as many steps, and no resets are looked for; None:
            they are.
    """

    episode_steps: int | None = None

    def read(self, allocate: Allocate = np.empty) -> Episodes:
        """All episodes, in arrays that `allocate` makes.

        Raises:
            DataError: An array is missing or of another length, or a value is not finite.
        """
        try:
            return self._read(allocate)
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error})") from error

    def _read(self, allocate: Allocate) -> Episodes:
        arrays = self._arrays
        rows = len(arrays["rewards"])
        terminals = arrays["terminals"].astype(np.bool_)
        timeouts = arrays.get("timeouts", np.zeros(rows)).astype(np.bool_)
        ends = np.flatnonzero(terminals | timeouts) + 1
        bounds = np.unique(np.concatenate([[0], ends, [rows]]))
        if self.episode_steps is None:
            found = self._unmarked(bounds)
        else:
            found = [np.arange(*pair, self.episode_steps) for pair in pairwise(bounds)]
        bounds = np.unique(np.concatenate([bounds, *found]))
        episodes = (
            self._episode(int(start), int(end), bool(terminals[end - 1]))
            for start, end in pairwise(bounds)
        )
        kept = (part for part in episodes if len(part.rewards))
        most = len(bounds) - 1, rows
        joined = join_episodes(kept, self.spaces, self.name, most=most, allocate=allocate)
        if dropped := most[0] - joined.count:
            logger.warning("%s: %d episodes of a single step dropped", self.name, dropped)
        return joined

    def _unmarked(self, bounds: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Rows that begin an episode though nothing marks the one before as an end."""
        arrays = self._arrays
        inside = np.ones(len(arrays["rewards"]) - 1, np.bool_)
        inside[bounds[1:-1] - 1] = False
        if "next_observations" in arrays:
            how, away = "next_observations are not the next observations", self._broken()
        elif self.flattening.frame_shape:
            how, away = "images would show it, which is not looked for", np.zeros_like(inside)
        else:
            how, away = "states jump", jumps(arrays["observations"], inside)
        found = np.flatnonzero(away & inside) + 1
        if not len(found) and "timeouts" in arrays:
            return []
        length = usual_length(found)
        marked = "no `timeouts`" if "timeouts" not in arrays else "incomplete `timeouts`"
        first = f", first at row {found[0]}" if len(found) else ""
        if length:
            advice = f"Most are {length} steps apart: set data.episode_steps to {length} if all are"
        else:
            advice = "Others may be missed: set data.episode_steps if episodes have one length"
        text = f"{marked}; {len(found)} resets found where {how}{first}"
        logger.warning("%s: %s. %s", self.name, text, advice)
        return [found]

    def _broken(self) -> npt.NDArray[np.bool_]:
        """Whether row i leads to another observation than that of row i + 1, shape (M - 1,)."""
        given, following = self._arrays["next_observations"], self._arrays["observations"]
        size, found = max(len(following) // 100, 1024), []
        if self.flattening.frame_shape:
            size = 256
        for start in range(0, len(following) - 1, size):
            rows = np.asarray(following[start + 1 : start + 1 + size], np.float32)
            nexts = np.asarray(given[start : start + len(rows)], np.float32)
            apart = ~np.isclose(nexts, rows, rtol=ROUNDING, atol=ROUNDING)
            found.append(apart.reshape(len(rows), -1).any(axis=1))
        return np.concatenate(found) if found else np.zeros(0, np.bool_)

    def _episode(self, start: int, end: int, terminated: bool) -> Episode:
        arrays = self._arrays
        observations = arrays["observations"][start:end].reshape(end - start, -1)
        end_seen = "next_observations" in arrays or not terminated
        if "next_observations" in arrays:
            last = arrays["next_observations"][end - 1].reshape(1, -1)
            observations = np.concatenate([observations, last])
        elif terminated:
            observations = np.concatenate([observations, observations[-1:]])
        steps = len(observations) - 1
        terminations, truncations = np.zeros((2, steps), np.bool_)
        (terminations if terminated else truncations)[-1:] = True
        return Episode(
            self.flattening.vectors(observations),
            flat_actions(arrays["actions"][start : start + steps], self.spaces),
            arrays["rewards"][start : start + steps],
            terminations,
            truncations,
            end_seen,
            self.flattening.frames(observations) if self.spaces.frames else None,
        )

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        import h5py

        try:
            # Open as long as `self`: what is wide is read episode by episode.
            file = h5py.File(self.path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES)
            missing = [key for key in REQUIRED if key not in file]
            if missing:
                raise DataError(
                    f"{self.name}: no {', '.join(missing)}; expected D4RL's arrays "
                    f"{', '.join(REQUIRED)} (and timeouts), found {', '.join(file) or 'none'}"
                )
            wanted = [*REQUIRED, "timeouts", "next_observations"]
            arrays = {key: file[key] for key in wanted if key in file}
            for key, values in arrays.items():
                if not hasattr(values, "dtype"):
                    raise DataError(
                        f"{self.name}: {key} is a group ({', '.join(values)}), expected one array; "
                        "join its arrays, or record the data with Minari"
                    )
            return self._checked(arrays)
        except BlockingIOError as error:
            raise DataError(
                f"{self.name}: another process has it open for writing; try again when that ended"
            ) from error
        except OSError as error:
            raise DataError(f"{self.name}: not a readable HDF5 file ({error})") from error
