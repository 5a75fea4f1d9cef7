"""Data that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from ldcq.config import DataConfig, PointMazeConfig
from ldcq.config.generate import OgbenchPlayConfig
from ldcq.data.episodes import Episode, Episodes, Spaces, join_episodes

UMAZE = DataConfig(
    dataset="ldcq/umaze-v0",
    observation_keys=("observation",),
    generate=PointMazeConfig(maze="umaze", steps=3000, noise=0.5, seed=3),
)
BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
FLAT = spaces.Box(-np.inf, np.inf, (3,), np.float64)


def write(
    name: str, observation_space: gymnasium.Space[Any], action_space: Any, *parts: dict[str, Any]
) -> None:
    """With Minari's own function, into its own folder."""
    buffers = [
        EpisodeBuffer(
            id=index,
            observations=part["observations"],
            actions=part["actions"],
            rewards=part.get("rewards", np.arange(len(part["actions"]), dtype=np.float64)),
            terminations=np.zeros(len(part["actions"]), np.bool_),
            truncations=np.arange(len(part["actions"])) == len(part["actions"]) - 1,
        )
        for index, part in enumerate(parts)
    ]
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=observation_space, action_space=action_space
    )


def episode(steps: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "observations": random.standard_normal((steps + 1, 3)),
        "actions": random.uniform(-1, 1, (steps, 2)).astype(np.float32),
    }


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


def write_ogbench(path: Path, environment: str, rows: int) -> None:
    """Scripted play as a file of OGBench, without rewards; with the extra `ogbench`."""
    from common.generators.ogbench_play import ScriptedPlay

    played = ScriptedPlay(OgbenchPlayConfig(environment=environment)).episode(
        np.random.SeedSequence(1)
    )
    arrays = {
        "observations": played.observations,
        "actions": played.actions,
        **(played.infos or {}),
    }
    cut = {key: np.asarray(values)[:rows] for key, values in arrays.items()}
    np.savez(path, terminals=np.arange(rows) == rows - 1, **cut)  # type: ignore[arg-type]
