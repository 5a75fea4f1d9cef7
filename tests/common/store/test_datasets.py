"""Which data are there now: looked up without reading them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.store.datasets import UnreadDataError, keep_fingerprint, known_fingerprint, stamp
from ldcq.config import DataConfig


def test_a_fingerprint_is_known_for_as_long_as_the_files_stay_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / "mine/robot-v0" / "data"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("{}")
    config = DataConfig(dataset="mine/robot-v0")
    assert known_fingerprint(config, tmp_path) is None
    keep_fingerprint(config, tmp_path, stamp(config, tmp_path), "f")
    assert known_fingerprint(config, tmp_path) == "f"
    other = config.model_copy(update={"observation_keys": ("position",)})
    assert known_fingerprint(other, tmp_path) is None
    shutil.copytree(tmp_path / "datasets", tmp_path / "copy" / "datasets")
    shutil.copytree(tmp_path / "fingerprints", tmp_path / "copy" / "fingerprints")
    assert known_fingerprint(config, tmp_path / "copy") == "f"
    (folder / "main_data.hdf5").write_bytes(b"x")
    with pytest.raises(UnreadDataError, match="mine/robot-v0 has changed since it was read last"):
        known_fingerprint(config, tmp_path)
    keep_fingerprint(config, tmp_path, stamp(config, tmp_path), "g")
    assert known_fingerprint(config, tmp_path) == "g"


def test_generated_data_that_are_gone_will_be_made_anew(tmp_path: Path) -> None:
    config = DataConfig.model_validate(
        {"dataset": "mine/walk-v0", "generate": {"kind": "random_walk"}}
    )
    assert known_fingerprint(config, tmp_path) is None
    keep_fingerprint(config, tmp_path, "files", "f")
    with pytest.raises(UnreadDataError, match="mine/walk-v0 was here and is gone"):
        known_fingerprint(config, tmp_path)
    assert known_fingerprint(config.model_copy(update={"generate": None}), tmp_path) is None


def test_data_on_another_machine_are_unknown_and_no_store_is_made_for_them(tmp_path: Path) -> None:
    config, store = DataConfig(dataset=str(tmp_path / "data.h5")), tmp_path / "store"
    assert stamp(config, store) is None
    keep_fingerprint(config, store, stamp(config, store), "f")
    Path(config.dataset).touch()
    keep_fingerprint(config, store, stamp(config, store), "f")
    assert not store.exists()
    assert known_fingerprint(config, store) is None
