"""Every test of this folder sees an empty Minari folder, and data made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.data import ensure_dataset
from tests.common.data.samples import UMAZE


@pytest.fixture(autouse=True)
def _empty_minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.fixture(scope="session")
def umaze_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 3,000 generated steps of the U-maze."""
    root = tmp_path_factory.mktemp("store")
    assert ensure_dataset(UMAZE, root, lambda _done, _all: None)
    return root
