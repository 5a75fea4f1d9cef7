"""OGBench's files: as published, with rewards of one task, good and bad."""

from __future__ import annotations

import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data import load_episodes
from common.data.npz import NpzFile
from ldcq.config import DataConfig
from ldcq.data.episodes import DataError
from tests.common.data.samples import write_ogbench

HAS_OGBENCH = importlib.util.find_spec("ogbench") is not None
needs_ogbench = pytest.mark.skipif(
    not HAS_OGBENCH, reason="needs ogbench: pip install 'ldcq[ogbench]'"
)


def arrays(**changes: Any) -> dict[str, Any]:
    """Two trajectories of four and six rows; observations count the rows."""
    rows = np.arange(10, dtype=np.float32)
    given = {
        "observations": np.stack([rows, -rows], axis=1),
        "actions": np.stack([rows / 10] * 3, axis=1),
        "terminals": np.isin(rows, (3, 9)),
        "rewards": -rows,
        "masks": np.ones(10, np.float32),
    }
    return {key: value for key, value in (given | changes).items() if value is not None}


def write(folder: Path, **changes: Any) -> DataConfig:
    path = folder / "play-v0.npz"
    np.savez(path, **arrays(**changes))
    return DataConfig(dataset=str(path))


def test_the_last_row_of_a_trajectory_is_where_it_ended(tmp_path: Path) -> None:
    episodes = load_episodes(write(tmp_path), tmp_path)
    assert episodes.lengths.tolist() == [3, 5]
    assert episodes.observations_of(1)[:, 0].tolist() == [4, 5, 6, 7, 8, 9]
    assert episodes.rewards.tolist() == [0, -1, -2, -4, -5, -6, -7, -8]
    assert np.flatnonzero(episodes.truncations).tolist() == [2, 7]
    assert not episodes.terminations.any()
    assert (episodes.spaces.state_dim, episodes.spaces.action_dim) == (2, 3)


def test_with_next_observations_every_row_is_a_step(tmp_path: Path) -> None:
    following = arrays()["observations"] + 0.5
    episodes = load_episodes(write(tmp_path, next_observations=following, masks=None), tmp_path)
    assert episodes.lengths.tolist() == [4, 6]
    assert episodes.observations_of(0)[:, 0].tolist() == [0, 1, 2, 3, 3.5]


def test_where_the_task_is_done_an_episode_ends_and_another_goes_on(tmp_path: Path) -> None:
    masks = np.ones(10)
    masks[[5, 6, 7]] = 0  # resting at the goal
    episodes = load_episodes(write(tmp_path, masks=masks), tmp_path)
    assert episodes.lengths.tolist() == [3, 2, 1]
    assert np.flatnonzero(episodes.terminations).tolist() == [4]
    assert episodes.observations_of(1)[:, 0].tolist() == [4, 5, 6]
    assert episodes.observations_of(2)[:, 0].tolist() == [8, 9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terminals": None}, "no terminals; expected OGBench's arrays observations, actions"),
        ({"rewards": np.zeros(9)}, "rewards have 9 rows, expected 10 as observations"),
        ({"rewards": None}, r"no rewards; expected them, or data\.reward=.kind: ogbench"),
        ({"observations": np.zeros((10, 64, 64, 3))}, "images are not flattened"),
        ({"rewards": np.full(10, np.nan)}, "rewards are not finite"),
        ({"actions": np.array([None] * 10)}, r"not a NumPy archive .* allow_pickle"),
        ({"terminals": np.zeros((10, 2))}, r"terminals have shape \(10, 2\), expected one a step"),
        ({"masks": np.full(10, np.nan)}, "masks hold nan at row 0, expected 0 or 1"),
        ({"observations": np.zeros((10, 3), complex)}, "observations are complex128, expected num"),
        ({"actions": np.array(["left"] * 10)}, "actions are <U4, expected numbers"),
        ({"actions": np.zeros((10, 0))}, r"actions have shape \(10, 0\), expected numbers in it"),
        ({"rewards": np.float64(3)}, "rewards is one number, expected a row for each step"),
        ({"actions": np.arange(10) - 1}, "whole numbers from -1 to 8, .*; expected 0 to 65535"),
        ({"actions": np.full(10, 1 << 40)}, "to 1099511627776, which mean one index a step"),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_episodes(write(tmp_path, **changes), tmp_path)


def test_what_is_no_archive_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    config = DataConfig(dataset=str(path))
    with pytest.raises(DataError, match=r"no file .*data\.npz; .* `ldcq tasks NAME` says where"):
        load_episodes(config, tmp_path)
    path.write_text("no archive")
    with pytest.raises(DataError, match="not a NumPy archive"):
        load_episodes(config, tmp_path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="not a NumPy archive"):
        load_episodes(config, tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"not a NumPy archive .*\(No data left in file\)"):
        load_episodes(config, tmp_path)
    with pytest.raises(DataError, match=r"episode_steps: got 5 .* OGBench's files record"):
        load_episodes(config.model_copy(update={"episode_steps": 5}), tmp_path)


def test_a_damaged_archive_is_explained_wherever_the_damage_is(tmp_path: Path) -> None:
    path = Path(write(tmp_path).dataset)
    with np.load(path) as arrays:
        np.savez_compressed(path, **arrays)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with suppress(DataError):  # or the damage is where nobody looks
            NpzFile(path).read()


@pytest.mark.skipif(HAS_OGBENCH, reason="ogbench is installed")
def test_rewards_of_a_task_without_ogbench(tmp_path: Path) -> None:
    path = Path(write(tmp_path, rewards=None).dataset)
    with pytest.raises(DataError, match=r"needs ogbench: pip install 'ldcq\[ogbench\]'"):
        NpzFile(path, task="scene-singletask-v0").read()


@needs_ogbench
def test_rewards_of_a_task_are_ogbenchs(tmp_path: Path) -> None:
    path = tmp_path / "scene-play-v0.npz"
    write_ogbench(path, "scene-v0", 60)
    episodes = NpzFile(path, task="scene-singletask-v0").read()
    assert episodes.lengths.tolist() == [59]
    assert episodes.spaces.state_dim == 40
    assert set(episodes.rewards.tolist()) <= {-5.0, -4.0, -3.0, -2.0, -1.0, 0.0}
    with pytest.raises(DataError, match=r"cube-double-singletask-v0 does not go .*qpos of 25"):
        NpzFile(path, task="cube-double-singletask-v0").read()
    with pytest.raises(DataError, match=r"scene-v0 does not go with .*not in the single-task mode"):
        NpzFile(path, task="scene-v0").read()
