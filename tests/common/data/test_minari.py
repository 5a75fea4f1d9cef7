"""Minari datasets as others write them, good and bad; what a name that is none leads to."""

from __future__ import annotations

import json
import time
from pathlib import Path

import minari
import numpy as np
import pytest
from gymnasium import spaces

from common.data import load_episodes
from common.data.minari import MinariDataset, local_datasets
from ldcq.config import DataConfig
from ldcq.data.episodes import DataError
from tests.common.data.samples import BOX, FLAT, UMAZE, episode, write

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
        "ldcq data generate NAME",
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


@pytest.mark.parametrize("given", ["abc", float("nan"), 4.0])
def test_reference_scores_that_are_none_are_refused(tmp_path: Path, given: object) -> None:
    (tmp_path / "data").mkdir()
    said = {"dataset_id": "ours/odd-v0", "ref_min_score": given, "ref_max_score": 4.0}
    (tmp_path / "data" / "metadata.json").write_text(json.dumps(said))
    with pytest.raises(DataError, match=r"ours/odd-v0: .* expected two different numbers, or none"):
        _ = MinariDataset(tmp_path).reference_scores


@pytest.mark.parametrize("content", ["", "5", "null", "[1]"])
def test_metadata_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text(content)
    with pytest.raises(DataError, match="not a Minari dataset's metadata"):
        _ = MinariDataset(tmp_path).metadata
