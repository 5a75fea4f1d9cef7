"""Minari datasets and D4RL files as others write them, good and bad."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from common.data import load_episodes
from common.data.flattening import flattening
from common.data.minari import local_datasets
from ldcq.config import DataConfig
from ldcq.data.episodes import DataError, Episode, join_episodes
from ldcq.data.resets import suspicious_steps
from ldcq.data.windows import make_windows
from tests.common.data.samples import UMAZE

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


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


FLAT = spaces.Box(-np.inf, np.inf, (3,), np.float64)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_minari_episodes_are_read_as_they_are(tmp_path: Path) -> None:
    parts = [episode(4, 1), episode(7, 2)]
    write("ours/flat-v0", FLAT, BOX, *parts)
    episodes = load_episodes(DataConfig(dataset="ours/flat-v0"), tmp_path)
    assert episodes.lengths.tolist() == [4, 7]
    for index, part in enumerate(parts):
        np.testing.assert_array_equal(
            episodes.observations_of(index), part["observations"].astype(np.float32)
        )
    np.testing.assert_array_equal(episodes.actions[4:], parts[1]["actions"])
    np.testing.assert_array_equal(episodes.rewards_of(1), np.arange(7))
    assert np.flatnonzero(episodes.truncations).tolist() == [3, 10]
    assert (episodes.spaces.state_dim, episodes.spaces.action_dim) == (3, 2)
    assert episodes.reference_scores is None


def test_dictionary_observations_are_flattened_in_the_order_of_the_keys(tmp_path: Path) -> None:
    space = spaces.Dict(
        {
            "speed": spaces.Box(-9, 9, (1,)),
            "camera": spaces.Box(0, 9, (2, 2)),
            "gear": spaces.Discrete(3, start=1),
            "arm": spaces.Dict({"joint": spaces.Box(-9, 9, (2,))}),
        }
    )
    observations: dict[str, Any] = {
        "speed": np.array([[1], [2], [3]], np.float32),
        "camera": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
        "gear": np.array([1, 3, 2]),
        "arm": {"joint": np.array([[5, 6], [7, 8], [9, 9]], np.float32)},
    }
    actions = np.zeros((2, 2), np.float32)
    write("ours/dict-v0", space, BOX, {"observations": observations, "actions": actions})
    everything = load_episodes(DataConfig(dataset="ours/dict-v0"), tmp_path)
    assert everything.observations[1].tolist() == [7, 8, 4, 5, 6, 7, 0, 0, 1, 2]
    keys = ("speed", "arm")
    chosen = load_episodes(DataConfig(dataset="ours/dict-v0", observation_keys=keys), tmp_path)
    assert chosen.observations.tolist() == [[1, 5, 6], [2, 7, 8], [3, 9, 9]]
    single = {
        key: value[1] if not isinstance(value, dict) else {"joint": value["joint"][1]}
        for key, value in observations.items()
    }
    assert flattening(space, keys, "here").single(single).tolist() == [2, 7, 8]


def test_wrong_observation_keys_say_what_there_is(umaze_store: Path, tmp_path: Path) -> None:
    wrong = UMAZE.model_copy(update={"observation_keys": ("observatoin",)})
    with pytest.raises(DataError, match=r"no 'observatoin'; .* achieved_goal, desired_goal, obs"):
        load_episodes(wrong, umaze_store)
    write("ours/flat-v0", FLAT, BOX, episode(4))
    keyed = DataConfig(dataset="ours/flat-v0", observation_keys=("x",))
    with pytest.raises(DataError, match="no dictionary"):
        load_episodes(keyed, tmp_path)


def test_keys_may_leave_out_what_is_no_vector() -> None:
    vector, image = spaces.Box(-9, 9, (2,)), spaces.Box(0, 255, (84, 84, 3), np.uint8)
    others = {"camera": image, "said": spaces.Text(9), "flags": spaces.MultiBinary(3)}
    space = spaces.Dict({"position": vector, "long": spaces.Box(-1, 1, (5000,)), **others})
    assert flattening(space, ("position",), "here").size == 2
    for key, said in (
        ("camera", "images are not flattened. frames={} comp"),
        ("long", "4096"),
        ("flags", "MultiBinary"),
    ):
        with pytest.raises(DataError, match=f"here: observation '{key}' are .*{said}.*leave it"):
            flattening(space, ("position", key), "here")
    with pytest.raises(DataError, match=r"'camera'.*naming the others in data\.observation_keys"):
        flattening(space, None, "here")
    with pytest.raises(DataError, match=r"here: observations are of shape \(84, 84, 3\)"):
        flattening(image, None, "here")
    with pytest.raises(DataError, match="'position' is given twice"):
        flattening(space, ("position", "position"), "here")


def test_a_key_may_have_a_dot_in_it() -> None:
    space = spaces.Dict({"arm.left": spaces.Box(-9, 9, (2,)), "b": spaces.Box(-9, 9, (1,))})
    flat = flattening(space, ("arm.left",), "here")
    assert flat.single({"arm.left": [1, 2], "b": [3]}).tolist() == [1, 2]


def test_discrete_actions(tmp_path: Path) -> None:
    part = {**episode(3), "actions": np.array([2, 0, 1])}
    write("ours/discrete-v0", FLAT, spaces.Discrete(3), part)
    episodes = load_episodes(DataConfig(dataset="ours/discrete-v0"), tmp_path)
    assert episodes.spaces.discrete_actions == 3
    assert episodes.actions.dtype == np.int64
    assert episodes.actions.tolist() == [[2], [0], [1]]


def test_unsupported_actions_are_refused(tmp_path: Path) -> None:
    part = {**episode(2), "actions": np.array([[0, 1], [1, 0]])}
    write("ours/multi-v0", FLAT, spaces.MultiDiscrete([2, 2]), part)
    with pytest.raises(DataError, match=r"MultiDiscrete.* expected a Box, or a Discrete"):
        load_episodes(DataConfig(dataset="ours/multi-v0"), tmp_path)


@pytest.mark.parametrize("field", ["observations", "actions", "rewards"])
def test_values_that_are_not_finite_are_located(field: str, tmp_path: Path) -> None:
    bad = {**episode(6, 1), "rewards": np.zeros(6)}
    bad[field][3] = np.inf if field == "rewards" else np.nan
    write("ours/bad-v0", FLAT, BOX, episode(5), bad)
    with pytest.raises(DataError, match=f"{field} are not finite at episode 1, step 3"):
        load_episodes(DataConfig(dataset="ours/bad-v0"), tmp_path)


def test_unknown_dataset_lists_what_there_is(umaze_store: Path) -> None:
    assert list(local_datasets(umaze_store)) == ["ldcq/umaze-v0"]
    with pytest.raises(DataError) as error:
        load_episodes(DataConfig(dataset="ldcq/unaze-v0"), umaze_store)
    for part in (
        ". Did you mean 'ldcq/umaze-v0'?",
        "`ldcq data ensure CONFIG` fetches it",
        "data.download=true",
        "ldcq data pointmaze",
    ):
        assert part in str(error.value)


def test_download_only_when_asked_and_explained_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def download(dataset: str) -> None:
        asked.append(dataset)
        if "none" in dataset:
            raise ConnectionError("no route to host")
        write(dataset, FLAT, BOX, episode(4))

    monkeypatch.setattr(minari, "download_dataset", download)
    monkeypatch.setattr("common.data.minari._reach_hub", lambda: None)
    with pytest.raises(DataError, match="on this machine"):
        load_episodes(DataConfig(dataset="ours/far-v0"), tmp_path)
    assert not asked
    assert load_episodes(DataConfig(dataset="ours/far-v0", download=True), tmp_path).count == 1
    assert load_episodes(DataConfig(dataset="ours/far-v0", download=True), tmp_path).count == 1
    assert asked == ["ours/far-v0"]
    with pytest.raises(DataError, match=r"could not be downloaded: no route to host"):
        load_episodes(DataConfig(dataset="ours/none-v0", download=True), tmp_path)


def test_a_download_without_a_connection_fails_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(DataError, match=r"be downloaded.*Did you mean 'mujoco/hopper/medium-v0'\?"):
        load_episodes(DataConfig(dataset="hopper-medium-v2", download=True), tmp_path)
    assert time.monotonic() - begun < 6


def test_actions_outside_the_recorded_space_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far = episode(5)
    far["actions"][1:3, 0] = -1.5, 3.0
    write("ours/far-v0", FLAT, BOX, episode(4), far)
    assert load_episodes(DataConfig(dataset="ours/far-v0"), tmp_path).actions_outside == (2, 2.0)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == [
        "ours/far-v0: 2 of 9 actions are outside the dataset's own action space, by up to 2"
    ]


def test_half_written_dataset_is_an_error_not_a_crash(umaze_store: Path, tmp_path: Path) -> None:
    source = umaze_store / "datasets" / UMAZE.dataset / "data"
    target = tmp_path / "datasets" / UMAZE.dataset / "data"
    target.mkdir(parents=True)
    (target / "metadata.json").write_bytes((source / "metadata.json").read_bytes())
    content = (source / "main_data.hdf5").read_bytes()
    (target / "main_data.hdf5").write_bytes(content[: len(content) // 3])
    with pytest.raises(DataError, match="cannot be read"):
        load_episodes(UMAZE, tmp_path)
    (target / "metadata.json").write_text("{")
    with pytest.raises(DataError, match="not a Minari dataset's metadata"):
        load_episodes(UMAZE, tmp_path)


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


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("https://here/file.hdf5", "is an address; .*download it first"),
        ("maze2d-large-v1", "Did you mean 'D4RL/pointmaze/large-v2'"),
        ("antmaze-large-diverse-v0", "Did you mean 'D4RL/antmaze/large-diverse-v1'"),
        ("kitchen-mixed-v0", "Did you mean 'D4RL/kitchen/mixed-v2'"),
        ("door-human-v1", "Did you mean 'D4RL/door/human-v2'"),
        ("hopper-medium-v2", "Did you mean 'mujoco/hopper/medium-v0'"),
    ],
)
def test_a_name_of_elsewhere_leads_to_what_would_work(
    tmp_path: Path, dataset: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_episodes(DataConfig(dataset=dataset), tmp_path)


def test_a_file_of_another_name_is_told_what_counts(tmp_path: Path) -> None:
    (tmp_path / "data.dat").touch()
    with pytest.raises(DataError, match=r"expected one that ends in \.hdf5 or \.h5"):
        load_episodes(DataConfig(dataset=str(tmp_path / "data.dat")), tmp_path)
    loud = d4rl_file(tmp_path).dataset.replace("file.hdf5", "FILE.HDF5")
    (tmp_path / "file.hdf5").rename(loud)
    assert load_episodes(DataConfig(dataset=loud), tmp_path).count == 3


def test_a_long_list_of_datasets_is_cut(tmp_path: Path) -> None:
    for number in range(7):
        write(f"ours/number{number}-v0", FLAT, BOX, episode(3))
    with pytest.raises(DataError, match="ours/number4-v0 and 2 more"):
        load_episodes(DataConfig(dataset="what"), tmp_path)


def test_metadata_is_plain_json(umaze_store: Path) -> None:
    path = umaze_store / "datasets" / UMAZE.dataset / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    assert metadata["dataset_id"] == UMAZE.dataset
    assert metadata["total_steps"] == 3000
