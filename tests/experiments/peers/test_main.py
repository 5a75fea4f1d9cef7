"""The command that measures the peers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from common.rpc.stage import Progress
from common.store import Store
from common.training.context import StageContext
from experiments.peers import __main__, measure
from ldcq.config import load, override
from services.vae.frames.train import run as train_frames
from tests.command import PIXELS


def test_images_are_compressed_by_the_stores_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "store", tmp_path / "peers" / "pixels.json"
    steps = {"data.generate.steps": 600, "data.generate.max_episode_steps": 20}
    config = override(load(PIXELS), {**steps, "frames.epochs": 1})
    monkeypatch.setattr(__main__, "PYTHON", Path(__file__))
    monkeypatch.setattr(__main__, "configurations", lambda *_, **__: {"pixels": config})
    command = f"peers pixels --store {root} --seconds 1 --seeds 1 --results {tmp_path}"
    monkeypatch.setattr("sys.argv", command.split())
    assert __main__.main() == 2
    assert "needs the frames of 'main'" in capsys.readouterr().err
    assert not (root / "datasets").exists(), "refused before any work"

    class Still:
        seen: ClassVar[list[tuple[int, ...]]] = []

        def act(self, observations: Any, _goals: Any = None) -> Any:
            self.seen.append(observations.shape)
            return np.zeros((len(observations), 2), np.float32)

        def reset(self, mask: Any = None) -> None: ...

    def train(*given: Any) -> tuple[Still, dict[str, Any]]:
        rows = dict(np.load(given[-1]))
        assert rows["observations"].shape == (600, 6 + 2)
        assert rows["observations"].std(axis=0).min() > 0
        return Still(), {"cpu_seconds": 1.0, "updates": 5, "library": "d3rlpy 0"}

    monkeypatch.setattr(measure, "_train", train)
    version = train_frames(StageContext(config, Store(root), Progress("frames")))
    assert __main__.main() == 0
    assert Still.seen[0] == (config.evaluation.environments, 6 + 2)
    written = json.loads(out.read_text())
    assert written["frames"] == version
    assert len(written["rows"][0]["runs"][0]["returns"]) == config.evaluation.episodes


def test_without_its_environment_a_call_says_how_to_make_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(__main__, "PYTHON", tmp_path / "python")
    command = "peers demo --store s --seconds 1"
    monkeypatch.setattr("sys.argv", command.split())
    assert __main__.main() == 2
    assert "run `make peers` first" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["", " --task hopper"])
def test_one_of_several_tasks_is_to_be_named(
    given: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(__main__, "PYTHON", Path(__file__))
    monkeypatch.setattr(__main__, "configurations", lambda *_, **__: {"a": None, "b": None})
    command = f"peers locomotion --store {tmp_path} --seconds 1{given}"
    monkeypatch.setattr("sys.argv", command.split())
    assert __main__.main() == 2
    assert "expected one of a, b" in capsys.readouterr().err
