"""Data that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ldcq.config import DataConfig, PointMazeConfig
from ldcq.data.episodes import Episode, Episodes, Spaces, join_episodes

UMAZE = DataConfig(
    dataset="ldcq/umaze-v0",
    observation_keys=("observation",),
    generate=PointMazeConfig(maze="umaze", steps=3000, noise=0.5, seed=3),
)


def numbered_episodes(
    lengths: Sequence[int], terminal: Sequence[bool] = (), state_dim: int = 3, action_dim: int = 2
) -> Episodes:
    """Episodes whose values say where they come from: observation = (episode, step, ...)."""
    parts = []
    for index, length in enumerate(lengths):
        observations = np.zeros((length + 1, state_dim), np.float32)
        observations[:, 0], observations[:, 1] = index, np.arange(length + 1)
        actions = np.stack([np.full(length, index), np.arange(length)], axis=1)[:, :action_dim]
        ends = np.arange(length) == length - 1
        terminated = bool(terminal) and terminal[index]
        parts.append(
            Episode(
                observations,
                actions.astype(np.float32),
                1000.0 * index + np.arange(length),
                ends & terminated,
                ends & (not terminated),
            )
        )
    bounds = np.ones(action_dim, np.float32)
    return join_episodes(parts, Spaces.box(state_dim, -bounds, bounds), "numbered")
