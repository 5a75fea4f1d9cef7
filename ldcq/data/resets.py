"""Resets that a recording does not mark: steps that the data's own steps do not explain.

Most entries of a state change little in one step, compared with all that they do in the data:
positions, angles. A reset moves them all at once, by many times their usual step; a collision or an
angle that wraps moves few of them. How far a step goes is therefore the geometric mean, over these
smooth entries, of its size in usual steps, where no entry counts so much that it decides alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ldcq.data.episodes import BLOCK_BYTES, Boolean, Episodes, Integer

JUMP = 4.0
"""Usual steps from which on a step is no step. Where the usual steps of simulated tasks end
(PointMaze, Adroit, MuJoCo's locomotion): below 3.6."""
USUAL = 0.9
"""Of an entry's step sizes, the quantile that counts as usual."""
SMOOTH = 0.2
"""Of its standard deviation, what an entry's usual step may be at most to be a smooth one."""
PIECES = 16
"""Of the states, at most, say what is usual."""


def jumps(states: Any, inside: Boolean) -> Boolean:
    """Whether row i + 1 cannot be what a step from row i led to.

    Args:
        states: An array (M, ...), perhaps of a file: it is read piece by piece.
        inside: Whether row i + 1 is said to follow row i, shape (M - 1,).

    Returns:
        Shape (M - 1,); all False where less than two entries are smooth: nothing can be said then.
    """
    found = np.zeros(len(inside), np.bool_)
    usual, smooth = _usual_steps(states, inside)
    if smooth.sum() < 2:
        return found
    for start, rows in _pieces(states):
        steps = np.abs(np.diff(rows[:, smooth], axis=0)) / usual[smooth]
        far = np.log(np.clip(steps, 1, JUMP**2)).mean(axis=1) > np.log(JUMP)
        found[start : start + len(far)] = far
    return found & inside


def suspicious_steps(episodes: Episodes) -> list[tuple[int, int]]:
    """Episode and step of all that look like a reset inside an episode."""
    lasts = np.cumsum(episodes.lengths + 1)[:-1] - 1
    inside = np.ones(len(episodes.observations) - 1, np.bool_)
    inside[lasts] = False
    rows = np.flatnonzero(jumps(episodes.observations, inside))
    episode = np.searchsorted(lasts, rows)
    first = np.concatenate([[0], lasts + 1])[episode]
    return list(zip(episode.tolist(), (rows - first).tolist(), strict=True))


def usual_length(starts: Integer) -> int | None:
    """How far most of these rows, where episodes start, are apart; None where that differs."""
    lengths = Counter(np.diff(starts).tolist())
    length, count = lengths.most_common(1)[0] if lengths else (0, 0)
    return length if count > 1 and 2 * count >= len(starts) - 1 else None


def _usual_steps(
    states: Any, inside: Boolean
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The usual step of every entry, and which entries are smooth, shape (S,) each."""
    pieces = []
    for start, rows in _pieces(states, most=PIECES):
        steps = np.abs(np.diff(rows, axis=0))
        pieces.append((steps[inside[start : start + len(steps)]], rows))
    if not pieces:
        return np.ones(1, np.float32), np.zeros(1, np.bool_)
    sizes = np.concatenate([steps for steps, _ in pieces])
    spread = np.concatenate([rows for _, rows in pieces]).std(axis=0)
    if not len(sizes):
        return np.ones(spread.shape, np.float32), np.zeros(spread.shape, np.bool_)
    usual = np.quantile(sizes, USUAL, axis=0)
    return usual, (usual > 0) & (usual <= SMOOTH * spread)


def _pieces(states: Any, most: int | None = None) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Rows from front to back with the index of the first; each piece begins with the last row of
    the one before. At most so many, spread evenly.
    """
    width = int(np.prod(states.shape[1:], dtype=np.int64))
    rows = max(BLOCK_BYTES // (32 * max(width, 1)), 2)
    starts = range(0, max(len(states) - 1, 0), rows)
    every = 1 if most is None else -(-len(starts) // most) or 1
    for start in starts[::every]:
        piece = np.asarray(states[start : start + rows + 1], np.float32)
        yield start, piece.reshape(len(piece), -1)
