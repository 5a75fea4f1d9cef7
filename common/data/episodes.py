"""Episodes as flat arrays, the spaces they live in, and the checks they pass first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Integer = npt.NDArray[np.int64]
Boolean = npt.NDArray[np.bool_]


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
    """

    state_dim: int
    action_dim: int
    discrete_actions: int
    action_low: Float
    action_high: Float

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
        return f"states of {self.state_dim} dimensions and {actions}"


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
        spaces: What states and actions look like.
        fingerprint: Digest of the content.
        name: Dataset id or file name, for messages.
        reference_scores: Returns that score 0 and 100, if the dataset records them.
    """

    observations: Float
    actions: npt.NDArray[np.float32] | npt.NDArray[np.int64]
    rewards: Float
    terminations: Boolean
    truncations: Boolean
    lengths: Integer
    spaces: Spaces
    fingerprint: str
    name: str
    reference_scores: tuple[float, float] | None = None

    @cached_property
    def offsets(self) -> Integer:
        """Row of the first action of each episode, shape (E,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)[:-1]]).astype(np.int64)

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
    """One episode before it is joined to the others: T + 1 observations, T of everything else."""

    observations: npt.NDArray[np.generic]
    actions: npt.NDArray[np.generic]
    rewards: npt.NDArray[np.generic]
    terminations: npt.NDArray[np.generic]
    truncations: npt.NDArray[np.generic]


def join_episodes(
    parts: Sequence[Episode],
    spaces: Spaces,
    name: str,
    reference_scores: tuple[float, float] | None = None,
) -> Episodes:
    """Concatenates and checks episodes.

    Args:
        parts: Episodes with flat observations (T + 1, S) and flat actions (T, A).
        spaces: What their states and actions look like.
        name: For messages.
        reference_scores: Returns that score 0 and 100.

    Raises:
        DataError: There are none, an array has the wrong length or shape, a value is not finite,
            or a discrete action is not one of the space's.
    """
    if not parts:
        raise DataError(f"{name}: holds no episodes with at least one step")
    for index, part in enumerate(parts):
        _check_shapes(part, spaces, f"{name}, episode {index}")
    lengths = np.array([len(part.rewards) for part in parts], np.int64)
    raw_actions = np.concatenate([part.actions for part in parts])
    if spaces.discrete_actions:
        _check_discrete(raw_actions, spaces, lengths, name)
    observations = np.concatenate([part.observations for part in parts]).astype(np.float32)
    rewards = np.concatenate([part.rewards for part in parts]).astype(np.float32)
    actions: Float | Integer = (
        raw_actions.astype(np.int64) if spaces.discrete_actions else raw_actions.astype(np.float32)
    )
    terminations = np.concatenate([part.terminations for part in parts]).astype(np.bool_)
    truncations = np.concatenate([part.truncations for part in parts]).astype(np.bool_)
    _check_finite(observations, "observations", lengths + 1, name)
    _check_finite(actions, "actions", lengths, name)
    _check_finite(rewards, "rewards", lengths, name)
    arrays = (observations, actions, rewards, terminations, truncations, lengths)
    return Episodes(*arrays, spaces, _fingerprint(arrays, spaces), name, reference_scores)


def _check_shapes(part: Episode, spaces: Spaces, where: str) -> None:
    steps = len(part.rewards)
    expected = {
        "observations": (steps + 1, spaces.state_dim),
        "actions": (steps, spaces.action_dim),
        "rewards": (steps,),
        "terminations": (steps,),
        "truncations": (steps,),
    }
    for field, shape in expected.items():
        given = np.shape(getattr(part, field))
        if given != shape:
            raise DataError(f"{where}: {field} have shape {given}, expected {shape}")


def _check_discrete(
    actions: npt.NDArray[np.generic], spaces: Spaces, lengths: Integer, name: str
) -> None:
    values = actions.astype(np.float64)[:, 0]
    allowed = np.isin(values, np.arange(spaces.discrete_actions))
    if not allowed.all():
        row = int(np.argmin(allowed))
        episode, step = _locate(row, lengths)
        raise DataError(
            f"{name}: actions hold {values[row]:g} at episode {episode}, step {step}; "
            f"expected whole numbers from 0 to {spaces.discrete_actions - 1}"
        )


def _check_finite(
    values: npt.NDArray[np.float32] | npt.NDArray[np.int64],
    field: str,
    lengths: Integer,
    name: str,
) -> None:
    """Looks for NaN and infinity; `lengths` are the rows of each episode in `values`."""
    finite = np.isfinite(values)
    if finite.all():
        return
    rows = finite if finite.ndim == 1 else finite.all(axis=1)
    row = int(np.argmin(rows))
    episode, step = _locate(row, lengths)
    raise DataError(
        f"{name}: {field} are not finite at episode {episode}, step {step} ({values[row]}); "
        f"expected finite numbers ({int((~rows).sum())} such steps in all)"
    )


def _locate(row: int, lengths: Integer) -> tuple[int, int]:
    """Episode and step of a row of the concatenation of arrays of these lengths."""
    ends = np.cumsum(lengths)
    episode = int(np.searchsorted(ends, row, side="right"))
    return episode, row - int(ends[episode] - lengths[episode])


def _fingerprint(arrays: Sequence[npt.NDArray[np.generic]], spaces: Spaces) -> str:
    """Digest of all that is learned from, 16 hexadecimal digits; the name is not part of it."""
    bounds = [spaces.action_low.tolist(), spaces.action_high.tolist(), spaces.discrete_actions]
    digest = hashlib.sha256(json.dumps(bounds).encode())
    for values in arrays:
        digest.update(f"{values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()[:16]
