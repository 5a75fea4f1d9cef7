"""Windows of H steps as indices into flat episodes: none crosses a boundary, none is a copy."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ldcq.data.episodes import Boolean, DataError, Episodes, Float, Integer, Pixels

logger = logging.getLogger(__name__)
Indices = npt.NDArray[np.int64] | slice


@dataclass(frozen=True)
class Windows:
    """All windows tau_t = (s_t, a_t, ..., s_{t+H-1}, a_{t+H-1}) of a dataset (section 4.1).

    Attributes:
        episodes: Where the values live.
        horizon: H.
        starts: Row of a window's first action, shape (W,).
        episode: Episode of a window, shape (W,).
        step: Step within the episode at which it starts, shape (W,).
        validation: Whether its episode is kept from training, shape (W,).
    """

    episodes: Episodes
    horizon: int
    starts: Integer
    episode: Integer
    step: Integer
    validation: Boolean

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def training(self) -> Integer:
        """Indices of the training windows."""
        return np.flatnonzero(~self.validation)

    @property
    def held_out(self) -> Integer:
        """Indices of the validation windows; may be empty."""
        return np.flatnonzero(self.validation)

    def states(self, indices: Indices) -> Float:
        """s_t, ..., s_{t+H-1} in the environment's units, shape (B, H, S)."""
        first = self._observation_rows(indices)
        return _spans(self.episodes.observations, first, self.horizon)

    def first_states(self, indices: Indices) -> Float:
        """s_t, shape (B, S)."""
        return self.episodes.observations[self._observation_rows(indices)]

    def first_frames(self, indices: Indices) -> Pixels:
        """The images beside s_t, shape (B, K, H, W, C)."""
        assert self.episodes.frames is not None, "data without images"
        return self.episodes.frames[self._observation_rows(indices)]

    def next_states(self, indices: Indices) -> Float:
        """s_{t+H}, shape (B, S)."""
        return self.episodes.observations[self._observation_rows(indices) + self.horizon]

    def end_seen(self, indices: Indices) -> Boolean:
        """Whether s_{t+H} was recorded, shape (B,); see `Episodes.ends_seen`."""
        episode = self.episode[indices]
        last = self.step[indices] + self.horizon == self.episodes.lengths[episode]
        seen: Boolean = self.episodes.ends_seen[episode] | ~last
        return seen

    def actions(self, indices: Indices) -> Float | Integer:
        """a_t, ..., a_{t+H-1}, shape (B, H, A) float32, or (B, H, 1) int64 for discrete actions."""
        return _spans(self.episodes.actions, self.starts[indices], self.horizon)

    def rewards(self, indices: Indices) -> Float:
        """r_t, ..., r_{t+H-1}, shape (B, H)."""
        return _spans(self.episodes.rewards, self.starts[indices], self.horizon)

    def terminated(self, indices: Indices) -> Boolean:
        """Whether the window ended in a true terminal state, shape (B,); a time limit is none."""
        ended: Boolean = self.episodes.terminations[self.starts[indices] + self.horizon - 1]
        return ended

    def _observation_rows(self, indices: Indices) -> Integer:
        # Every episode before this one holds one observation more than it holds actions.
        rows: Integer = self.starts[indices] + self.episode[indices]
        return rows


def _spans(values: npt.NDArray[Any], first: Integer, count: int) -> npt.NDArray[Any]:
    """Neighbouring rows from each of `first` on, (B, count, ...)."""
    rows: npt.NDArray[Any] = values[first[:, None] + np.arange(count)]
    return rows


def make_windows(
    episodes: Episodes, horizon: int, validation_fraction: float, seed: int
) -> Windows:
    """Every window of `horizon` steps (stride 1), split into training and validation by episode.

    Windows end at or before a terminal state. At least one episode stays in training; with two or
    more and a positive fraction at least one is held out.

    Args:
        episodes: The data.
        horizon: H.
        validation_fraction: Share of the usable episodes to hold out, in [0, 1).
        seed: Decides which.

    Raises:
        DataError: No episode has a window of H steps.
    """
    counts = np.maximum(episodes.lengths - horizon + 1, 0)
    episode = np.repeat(np.arange(episodes.count, dtype=np.int64), counts)
    step = np.arange(len(episode), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = episodes.offsets[episode] + step
    if episodes.terminations.any():
        ended = np.concatenate([[0], np.cumsum(episodes.terminations)])
        keep = ended[starts + horizon - 1] == ended[starts]  # none before the window's last step
        episode, step, starts = episode[keep], step[keep], starts[keep]
    usable = np.unique(episode)
    _report_dropped(episodes, horizon, len(usable))
    held_out = _held_out(usable, validation_fraction, seed)
    return Windows(
        episodes=episodes,
        horizon=horizon,
        starts=starts,
        episode=episode,
        step=step,
        validation=np.isin(episode, held_out),
    )


def _report_dropped(episodes: Episodes, horizon: int, usable: int) -> None:
    dropped = episodes.count - usable
    if not usable:
        raise DataError(
            f"{episodes.name}: all {episodes.count} episodes are shorter than the horizon of "
            f"{horizon} steps; the longest has {int(episodes.lengths.max())}: expected `horizon` "
            "to be at most that"
        )
    if dropped:
        logger.warning(
            "%s: %d of %d episodes dropped, shorter than the horizon of %d steps",
            episodes.name,
            dropped,
            episodes.count,
            horizon,
        )


def _held_out(usable: Integer, fraction: float, seed: int) -> Integer:
    wanted = max(round(fraction * len(usable)), 1) if fraction > 0 else 0
    count = min(wanted, len(usable) - 1)
    return np.random.default_rng(seed).permutation(usable)[:count]
