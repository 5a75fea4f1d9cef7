"""Episodes as flat arrays, the spaces they live in, and the checks they pass first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Integer = npt.NDArray[np.int64]
Boolean = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]
Allocate = Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]]
"""Makes an array of a shape and a type to be filled, as `numpy.empty` does. Data that do not fit
into memory are put into a `numpy.memmap`."""
BLOCK_BYTES = 1 << 21
"""Of a column that are looked at together where all of it is."""


class DataError(ValueError):
    """Data that cannot be learned from; the message says what, where, and what was expected."""


@dataclass(frozen=True)
class Spaces:
    """Dimensions and bounds of flat states and actions.

    Attributes:
        state_dim: S, entries of a flattened observation.
        action_dim: A, entries of a flattened action; 1 for discrete actions.
        discrete_actions: Number of actions of a Discrete space, 0 for a Box.
        action_low: Lower bounds of a Box, shape (A,); zeros for discrete actions.
        action_high: Upper bounds, shape (A,); `discrete_actions - 1` for discrete actions.
        frames: (K, H, W, C) of the K images beside a state; empty where there are none.
    """

    state_dim: int
    action_dim: int
    discrete_actions: int
    action_low: Float
    action_high: Float
    frames: tuple[int, ...] = ()

    @classmethod
    def discrete(cls, state_dim: int, count: int) -> Spaces:
        """The spaces of a task with `count` discrete actions."""
        low, high = np.zeros(1, np.float32), np.full(1, count - 1, np.float32)
        return cls(state_dim, 1, count, low, high)

    @classmethod
    def box(cls, state_dim: int, low: npt.ArrayLike, high: npt.ArrayLike) -> Spaces:
        """The spaces of a task whose actions are bounded by `low` and `high`, flattened."""
        flat_low = np.asarray(low, np.float32).reshape(-1)
        return cls(state_dim, flat_low.size, 0, flat_low, np.asarray(high, np.float32).reshape(-1))

    def describe(self) -> str:
        """One line for messages."""
        actions = (
            f"{self.discrete_actions} discrete actions"
            if self.discrete_actions
            else f"actions of {self.action_dim} dimensions"
        )
        images = ""
        if self.frames:
            count, height, width, channels = self.frames
            images = f", {count} x {height} x {width} x {channels} pixels"
        return f"states of {self.state_dim} dimensions{images} and {actions}"


@dataclass(frozen=True)
class Episodes:
    """All episodes of a dataset, concatenated.

    Episode i has `lengths[i]` actions from row `offsets[i]` on and one observation more, from row
    `offsets[i] + i` on.

    Attributes:
        observations: Shape (M + E, S), in the environment's units.
        actions: Shape (M, A) float32, or (M, 1) int64 for discrete actions.
        rewards: Shape (M,).
        terminations: Whether the step ended in a true terminal state, shape (M,).
        truncations: Whether the episode was cut after the step, shape (M,).
        lengths: Actions of each episode, shape (E,).
        ends_seen: Whether the last observation of each episode was recorded, shape (E,); else it
            repeats the one before it.
        spaces: What states and actions look like.
        fingerprint: Digest of the content.
        name: Dataset id or file name, for messages.
        reference_scores: Returns that score 0 and 100, if the dataset records them.
        frames: Images beside the observations that are not compressed yet, (M + E, K, H, W, C);
            None where there are none.
    """

    observations: Float
    actions: Float | Integer
    rewards: Float
    terminations: Boolean
    truncations: Boolean
    lengths: Integer
    ends_seen: Boolean
    spaces: Spaces
    fingerprint: str
    name: str
    reference_scores: tuple[float, float] | None = None
    frames: Pixels | None = None

    @cached_property
    def offsets(self) -> Integer:
        """Row of the first action of each episode, shape (E,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

    @property
    def actions_outside(self) -> tuple[int, float]:
        """How many actions leave the bounds of `spaces`, and by how much at most; discrete ones
        never do.
        """
        if self.spaces.discrete_actions:
            return 0, 0.0
        rows, most = 0, 0.0
        for block in blocks(self.actions):
            beyond = np.maximum(self.spaces.action_low - block, block - self.spaces.action_high)
            excess = beyond.max(axis=1)
            rows += int((excess > 0).sum())
            most = max(most, float(excess.max()))
        return rows, most

    @property
    def count(self) -> int:
        """E, the number of episodes."""
        return len(self.lengths)

    def observations_of(self, episode: int) -> Float:
        """Observations of one episode, shape (T + 1, S)."""
        start = int(self.offsets[episode]) + episode
        return self.observations[start : start + int(self.lengths[episode]) + 1]

    def rewards_of(self, episode: int) -> Float:
        """Rewards of one episode, shape (T,)."""
        start = int(self.offsets[episode])
        return self.rewards[start : start + int(self.lengths[episode])]


@dataclass(frozen=True)
class Episode:
    """One episode before it is joined to the others: T + 1 observations, T of everything else.

    Attributes:
        end_seen: Whether the last observation was recorded; else it repeats the one before it.
    """

    observations: npt.NDArray[np.generic]
    actions: npt.NDArray[np.generic]
    rewards: npt.NDArray[np.generic]
    terminations: npt.NDArray[np.generic]
    truncations: npt.NDArray[np.generic]
    end_seen: bool = True
    frames: npt.NDArray[np.generic] | None = None


def join_episodes(
    parts: Iterable[Episode],
    spaces: Spaces,
    name: str,
    reference_scores: tuple[float, float] | None = None,
    *,
    most: tuple[int, int] | None = None,
    allocate: Allocate = np.empty,
) -> Episodes:
    """Concatenates and checks episodes, one after the other.

    Args:
        parts: Episodes with flat observations (T + 1, S) and flat actions (T, A).
        spaces: What their states and actions look like.
        name: For messages.
        reference_scores: Returns that score 0 and 100.
        most: Episodes and steps that `parts` hold at most, so that they can be taken one by one;
            None: they are counted first.
        allocate: Makes the arrays.

    Raises:
        DataError: There are none or more than `most`, an array has the wrong length or shape, a
            value is not finite, or a discrete action is not one of the space's.
    """
    if most is None:
        parts = list(parts)
        most = len(parts), sum(len(part.rewards) for part in parts)
    episodes, steps = most
    action = np.int64 if spaces.discrete_actions else np.float32
    columns = {
        "observations": _Column(allocate((steps + episodes, spaces.state_dim), np.float32)),
        "actions": _Column(allocate((steps, spaces.action_dim), action)),
        "rewards": _Column(allocate((steps,), np.float32)),
        "terminations": _Column(allocate((steps,), np.bool_)),
        "truncations": _Column(allocate((steps,), np.bool_)),
    }
    if spaces.frames:
        columns["frames"] = _Column(allocate((steps + episodes, *spaces.frames), np.uint8))
    lengths: list[int] = []
    ends_seen: list[bool] = []
    for index, part in enumerate(parts):
        _check_shapes(part, spaces, f"{name}, episode {index}")
        if spaces.discrete_actions:
            _check_discrete(part.actions, spaces, index, name)
        lengths.append(len(part.rewards))
        ends_seen.append(part.end_seen)
        if len(lengths) > episodes or columns["rewards"].rows + lengths[-1] > steps:
            raise DataError(f"{name}: expected {episodes} episodes of {steps} steps, found more")
        for field, column in columns.items():
            column.append(getattr(part, field), index)
    if not lengths:
        raise DataError(f"{name}: holds no episodes with at least one step")
    for field, column in columns.items():
        column.check_finite(field, name)
    arrays: dict[str, Any] = {field: column.filled for field, column in columns.items()}
    arrays["lengths"] = np.array(lengths, np.int64)
    arrays["ends_seen"] = np.array(ends_seen, np.bool_)
    # Data of which all was seen keep the fingerprint that they had before this was recorded.
    content = [values for key, values in arrays.items() if key != "ends_seen" or not values.all()]
    return Episodes(
        **arrays,
        spaces=spaces,
        fingerprint=_fingerprint(content, spaces),
        name=name,
        reference_scores=reference_scores,
    )


class _Column:
    """One array of all episodes while they arrive."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array, self.rows = array, 0
        self._bad, self._first_bad = 0, ""

    @property
    def filled(self) -> npt.NDArray[Any]:
        return self._array[: self.rows]

    def append(self, values: npt.NDArray[np.generic], episode: int) -> None:
        rows = np.asarray(values, self._array.dtype)
        self._array[self.rows : self.rows + len(rows)] = rows
        self.rows += len(rows)
        if rows.dtype.kind != "f" or (finite := np.isfinite(rows)).all():
            return
        bad = np.flatnonzero(~finite.reshape(len(rows), -1).all(axis=1))
        if not self._bad:
            self._first_bad = f"episode {episode}, step {bad[0]} ({rows[bad[0]]})"
        self._bad += len(bad)

    def check_finite(self, field: str, name: str) -> None:
        """Raises DataError where a row that was added is not finite, with the first such step."""
        if self._bad:
            raise DataError(
                f"{name}: {field} are not finite at {self._first_bad}; expected finite numbers "
                f"({self._bad} such steps in all)"
            )


def blocks(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """A column from front to back, about `BLOCK_BYTES` at a time."""
    row_bytes = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    rows = max(BLOCK_BYTES // max(row_bytes, 1), 1)
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def _check_shapes(part: Episode, spaces: Spaces, where: str) -> None:
    steps = len(part.rewards)
    expected = {
        "observations": (steps + 1, spaces.state_dim),
        "actions": (steps, spaces.action_dim),
        "rewards": (steps,),
        "terminations": (steps,),
        "truncations": (steps,),
    }
    if spaces.frames:
        expected["frames"] = (steps + 1, *spaces.frames)
    for field, shape in expected.items():
        given = np.shape(getattr(part, field))
        if given != shape:
            raise DataError(f"{where}: {field} have shape {given}, expected {shape}")


def _check_discrete(
    actions: npt.NDArray[np.generic], spaces: Spaces, episode: int, name: str
) -> None:
    values = actions.astype(np.float64)[:, 0]
    allowed = (values >= 0) & (values < spaces.discrete_actions) & (values == np.floor(values))
    if not allowed.all():
        step = int(np.argmin(allowed))
        raise DataError(
            f"{name}: actions hold {values[step]:g} at episode {episode}, step {step}; "
            f"expected whole numbers from 0 to {spaces.discrete_actions - 1}"
        )


def _fingerprint(arrays: Sequence[npt.NDArray[Any]], spaces: Spaces) -> str:
    """Digest of all that is learned from, 16 hexadecimal digits; the name is not part of it."""
    bounds = [spaces.action_low.tolist(), spaces.action_high.tolist(), spaces.discrete_actions]
    digest = hashlib.sha256(json.dumps(bounds).encode())
    for values in arrays:
        digest.update(f"{values.dtype.str} {values.shape}".encode())
        for block in blocks(values):
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()[:16]
