"""The door demonstrations, where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from common.data import load_episodes, load_task
from common.data.adroit import REFERENCE_SCORES, write_door_demonstrations
from ldcq.config import Config, DataConfig
from ldcq.data.episodes import DataError

FOLDER = os.environ.get("LDCQ_THIRD_PARTY_DATA")


@pytest.mark.skipif(
    FOLDER is None,
    reason="set LDCQ_THIRD_PARTY_DATA to a folder with door-human/door-v0_demos.npz",
)
def test_door_demonstrations_replay(tmp_path: Path) -> None:
    file = Path(str(FOLDER)) / "door-human" / "door-v0_demos.npz"
    done: list[int] = []
    assert write_door_demonstrations(
        file, "ldcq/door-human-v0", tmp_path, lambda step, _all: done.append(step)
    )
    assert done == list(range(1, 26))
    config = Config(data=DataConfig(dataset="ldcq/door-human-v0"))
    episodes = load_episodes(config.data, tmp_path)
    recorded = np.load(file)
    assert episodes.lengths.tolist() == recorded["lengths"].tolist()
    assert np.abs(episodes.actions).max() == 1.0
    inside = np.abs(recorded["actions"]) <= 1.0
    np.testing.assert_array_equal(episodes.actions[inside], recorded["actions"][inside])
    # The recording's very first observation is from before its reset; another MuJoCo moves the hand
    # a little differently, and not at all alike if starts or actions were mixed up.
    starts = np.cumsum(recorded["lengths"]) - recorded["lengths"]
    for index, start in enumerate(starts):
        joints = episodes.observations_of(index)[1:100, :27]
        wanted = recorded["observations"][start + 1 : start + 100, :27]
        assert np.abs(joints - wanted).mean() < 0.02
    assert abs(episodes.rewards.sum() / recorded["rewards"].sum() - 1) < 0.05
    task = load_task(config, tmp_path)
    assert (task.spaces.state_dim, task.spaces.action_dim) == (39, 28)
    assert (task.reference_scores, task.max_episode_steps) == (REFERENCE_SCORES, 200)
    assert (task.first_hit, task.layout) == (False, None)


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", actions=np.zeros((3, 28)))
    with pytest.raises(DataError, match=r"no lengths, init_qpos, .* found actions"):
        write_door_demonstrations(tmp_path / "other.npz", "ldcq/door-v0", tmp_path)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match="not a NumPy archive"):
        write_door_demonstrations(tmp_path / "text.npz", "ldcq/door-v0", tmp_path)
    assert not (tmp_path / "datasets").exists()
