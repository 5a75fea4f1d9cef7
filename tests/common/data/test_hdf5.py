"""D4RL files as others write them, good and bad; episodes whose ends they do not mark."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from common.data import load_episodes
from ldcq.config import DataConfig
from ldcq.data.episodes import DataError, Episode, join_episodes
from ldcq.data.resets import suspicious_steps
from ldcq.data.windows import make_windows
from tests.common.data.samples import UMAZE


def d4rl_file(path: Path, **changes: Any) -> DataConfig:
    """Ten rows: one episode of 4 that times out, one of 3 that terminates, one of 3 that is cut."""
    flags = np.zeros((2, 10), np.bool_)
    flags[0, 6] = flags[1, 3] = True
    arrays = {
        "observations": np.arange(30, dtype=np.float32).reshape(10, 3),
        "actions": np.linspace(-1, 1, 20).reshape(10, 2),
        "rewards": np.arange(10.0),
        "terminals": flags[0],
        "timeouts": flags[1],
        **changes,
    }
    with h5py.File(path / "file.hdf5", "w") as file:
        for key, values in arrays.items():
            if values is not None:
                file[key] = values
    return DataConfig(dataset=str(path / "file.hdf5"))


def test_d4rl_file_without_next_observations(tmp_path: Path) -> None:
    episodes = load_episodes(d4rl_file(tmp_path), tmp_path)
    assert episodes.lengths.tolist() == [3, 3, 2]  # cut episodes lose their last action
    assert episodes.rewards.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert episodes.observations_of(0)[:, 0].tolist() == [0, 3, 6, 9]
    assert episodes.observations_of(1)[:, 0].tolist() == [12, 15, 18, 18]  # nothing follows it
    assert np.flatnonzero(episodes.terminations).tolist() == [5]
    assert np.flatnonzero(episodes.truncations).tolist() == [2, 7]
    assert episodes.ends_seen.tolist() == [True, False, True]


@pytest.mark.parametrize("horizon", [1, 3])
def test_what_was_not_seen_is_the_end_of_one_window_and_is_no_reason_to_bootstrap(
    tmp_path: Path, horizon: int
) -> None:
    windows = make_windows(load_episodes(d4rl_file(tmp_path), tmp_path), horizon, 0.0, 0)
    everything = slice(None)
    made_up = ~windows.end_seen(everything)
    assert made_up.sum() == 1
    assert windows.terminated(everything)[made_up].all()
    assert windows.rewards(everything)[made_up][0, -1] == 6  # its reward was recorded
    seen = windows.next_states(everything)[~made_up, 0]
    assert (seen > windows.states(everything)[~made_up, -1, 0]).all()


def test_data_that_are_not_all_seen_have_a_fingerprint_of_their_own(tmp_path: Path) -> None:
    """Else models of before would be taken that learned what was made up."""
    seen = load_episodes(d4rl_file(tmp_path), tmp_path)
    parts = [
        Episode(
            seen.observations_of(index),
            seen.actions[start : start + length],
            seen.rewards_of(index),
            seen.terminations[start : start + length],
            seen.truncations[start : start + length],
        )
        for index, (start, length) in enumerate(zip(seen.offsets, seen.lengths, strict=True))
    ]
    alike = join_episodes(parts, seen.spaces, seen.name)
    np.testing.assert_array_equal(alike.observations, seen.observations)
    assert alike.fingerprint != seen.fingerprint


def test_d4rl_file_with_next_observations(tmp_path: Path) -> None:
    following = np.arange(3, 33, dtype=np.float32).reshape(10, 3)
    following[[3, 6, 9]] += 97
    episodes = load_episodes(d4rl_file(tmp_path, next_observations=following), tmp_path)
    assert episodes.lengths.tolist() == [4, 3, 3]
    assert episodes.observations_of(0)[:, 0].tolist() == [0, 3, 6, 9, 109]
    assert episodes.observations_of(1)[:, 0].tolist() == [12, 15, 18, 118]
    assert episodes.ends_seen.all()


STEPS = 60


def unmarked(path: Path, **changes: Any) -> DataConfig:
    """Twenty episodes of 60 steps of a point with inertia, whose ends nothing marks."""
    random = np.random.default_rng(0)
    position, velocity = random.uniform(-3, 3, (20, 2)), np.zeros((20, 2))
    rows = []
    for _ in range(STEPS + 1):
        rows.append(np.concatenate([position, velocity], axis=1))
        velocity = 0.95 * velocity + 0.005 * random.normal(size=(20, 2))
        position = position + velocity
    states = np.stack(rows, axis=1).astype(np.float32)
    arrays = {
        "observations": states[:, :-1].reshape(-1, 4),
        "next_observations": states[:, 1:].reshape(-1, 4),
        "actions": np.zeros((20 * STEPS, 2)),
        "rewards": np.zeros(20 * STEPS),
        "terminals": np.zeros(20 * STEPS, bool),
        "timeouts": None,
    }
    return d4rl_file(path, **(arrays | changes))


MARKED = np.arange(20 * STEPS) % STEPS == STEPS - 1


@pytest.mark.parametrize(
    ("changes", "lengths", "said"),
    [
        ({}, {60}, "no `timeouts`; 19 resets found where next_observations are not the next"),
        ({"next_observations": None}, {59}, "no `timeouts`; 19 resets found where states jump"),
        ({"timeouts": MARKED}, {60}, ""),
        ({"timeouts": MARKED, "next_observations": None}, {59}, ""),
        ({"timeouts": MARKED & (np.arange(20 * STEPS) > 600)}, {60}, "incomplete `timeouts`; 10"),
        ({"timeouts": np.roll(MARKED, 1), "next_observations": None}, {58}, "19 resets found"),
    ],
)
def test_resets_that_a_d4rl_file_does_not_mark_are_found(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    lengths: set[int],
    said: str,
) -> None:
    episodes = load_episodes(unmarked(tmp_path, **changes), tmp_path)
    assert set(episodes.lengths.tolist()) == lengths
    warnings = " ".join(record.getMessage() for record in caplog.records if record.levelno > 20)
    assert said in warnings
    assert bool(warnings) == bool(said)
    assert ("set data.episode_steps to 60" in warnings) == bool(said)
    assert suspicious_steps(episodes) == []


def test_the_length_of_episodes_can_be_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = unmarked(tmp_path, next_observations=None)
    given = config.model_copy(update={"episode_steps": STEPS})
    episodes = load_episodes(given, tmp_path)
    assert episodes.lengths.tolist() == [59] * 20
    assert not [record for record in caplog.records if record.levelno > 20]
    other = DataConfig(dataset="mine/robot-v0", episode_steps=STEPS)
    with pytest.raises(DataError, match=r"data.episode_steps: got 60 for 'mine/robot-v0'"):
        load_episodes(other, tmp_path)


def test_generated_data_have_no_suspicious_steps(umaze_store: Path) -> None:
    assert suspicious_steps(load_episodes(UMAZE, umaze_store)) == []


def test_d4rl_file_with_discrete_actions(tmp_path: Path) -> None:
    config = d4rl_file(tmp_path, actions=np.array([0, 1, 2, 3] * 2 + [0, 1]))
    episodes = load_episodes(config, tmp_path)
    assert episodes.spaces.discrete_actions == 4
    assert episodes.actions[:4, 0].tolist() == [0, 1, 2, 0]


def test_bad_d4rl_files_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no terminals; expected D4RL's arrays"):
        load_episodes(d4rl_file(tmp_path, terminals=None), tmp_path)
    with pytest.raises(DataError, match="rewards have 9 rows, expected 10"):
        load_episodes(d4rl_file(tmp_path, rewards=np.zeros(9)), tmp_path)
    rewards = np.zeros(10)
    rewards[5] = np.nan
    with pytest.raises(DataError, match="rewards are not finite at episode 1, step 1"):
        load_episodes(d4rl_file(tmp_path, rewards=rewards), tmp_path)
    (tmp_path / "file.hdf5").write_text("no HDF5")
    with pytest.raises(DataError, match="not a readable HDF5 file"):
        load_episodes(DataConfig(dataset=str(tmp_path / "file.hdf5")), tmp_path)
    with pytest.raises(DataError, match="no file"):
        load_episodes(DataConfig(dataset=str(tmp_path / "none.hdf5")), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"terminals": np.full(10, np.nan)}, "terminals hold nan at row 0, expected 0 or 1"),
        ({"timeouts": np.full(10, 0.5)}, "timeouts hold 0.5 at row 0, expected 0 or 1"),
        ({"terminals": np.array([b"no"] * 10)}, r"terminals are \|S2, expected numbers"),
        ({"rewards": np.zeros((10, 2))}, r"rewards have shape \(10, 2\), expected one a step"),
        ({"observations": np.zeros((10, 3), complex)}, "observations are complex128, expected num"),
        ({"next_observations": np.zeros((10, 2))}, r"next_observations have shape \(10, 2\), exp"),
        ({"actions": np.float64(1)}, "actions is one number, expected a row for each step"),
    ],
)
def test_arrays_of_another_kind_are_explained(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_episodes(d4rl_file(tmp_path, **changes), tmp_path)


def test_files_that_are_nearly_d4rls_are_explained(tmp_path: Path) -> None:
    onehot = np.eye(4, dtype=np.uint8)[np.arange(10) % 4]
    with pytest.raises(DataError, match=r"uint8 of shape \(10, 4\); integers mean one index"):
        load_episodes(d4rl_file(tmp_path, actions=onehot), tmp_path)
    with pytest.raises(DataError, match=r"\(8, 8, 3\); .*frames=\{\} compresses images: set it"):
        load_episodes(d4rl_file(tmp_path, observations=np.zeros((10, 8, 8, 3))), tmp_path)
    config = d4rl_file(tmp_path, observations=None)
    with h5py.File(config.dataset, "a") as file:
        file["observations/position"] = np.zeros((10, 2))
        with pytest.raises(DataError, match="another process has it open"):
            open_and_read_elsewhere(config.dataset)
    with pytest.raises(DataError, match=r"observations is a group \(position\), expected one arr"):
        load_episodes(config, tmp_path)


def open_and_read_elsewhere(file: str) -> None:
    """Reads in a process of its own, as locks are between processes."""
    code = f"from common.data.hdf5 import Hdf5File; Hdf5File(__import__('pathlib').Path({file!r}))"
    command = [sys.executable, "-c", f"{code}.read()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(done.stderr.splitlines()[-1])


def test_a_file_of_another_name_is_told_what_counts(tmp_path: Path) -> None:
    (tmp_path / "data.dat").touch()
    with pytest.raises(DataError, match=r"expected one that ends in \.hdf5 or \.h5"):
        load_episodes(DataConfig(dataset=str(tmp_path / "data.dat")), tmp_path)
    loud = d4rl_file(tmp_path).dataset.replace("file.hdf5", "FILE.HDF5")
    (tmp_path / "file.hdf5").rename(loud)
    assert load_episodes(DataConfig(dataset=loud), tmp_path).count == 3
