"""Peers' rows on an experiment's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.experiment import Experiment, Findings, Result, Row
from experiments.page import page
from experiments.peers import with_peers
from ldcq.config import Config, load, override
from services.actor.scores import Estimate

OWN = Findings([Row("ldcq", episode_return=Estimate(3.0, 1.0, 5.0), seeds=2)], notes=["Own."])


@pytest.fixture
def config() -> Config:
    return override(load("demo"), {"evaluation.episodes": 3})


def _run(seed: int, first_hit: bool = True) -> dict[str, Any]:
    return {
        "seed": seed,
        "cpu_seconds": 200.0 + seed,
        "returns": [10.0 + seed, 20.0 + seed, 30.0 + seed],
        "first_hits": [100.0, 110.0, 120.0] if first_hit else None,
        "success": 1.0 - 0.5 * seed if first_hit else None,
    }


def _write(file: Path, config: Config, *runs: dict[str, Any]) -> None:
    content = {
        "data": config.data.model_dump(mode="json"),
        "evaluation": {"episodes": 3, "seed": config.evaluation.seed},
        "training": {"cpu_seconds": 200.0, "n_steps": 10, "hidden": [128, 128]},
        "machine": {"processor": "A CPU"},
        "rows": [{"method": "IQL", "library": "d3rlpy 2.8.1", "runs": runs}],
    }
    file.write_text(json.dumps(content))


def test_peers_stand_below_an_experiments_own_rows(config: Config, tmp_path: Path) -> None:
    _write(tmp_path / "maze2d.json", config, _run(0), _run(1))
    found = with_peers(OWN, tmp_path / "maze2d.json", config)
    own, peer = found.rows
    assert own == OWN.rows[0]
    assert peer.method == "IQL (d3rlpy 2.8.1)"
    assert peer.episode_return is not None
    assert peer.episode_return.mean == 20.5
    assert peer.episode_return.ci_low < 20.5 < peer.episode_return.ci_high
    assert (peer.success, peer.episodes, peer.seeds) == (0.75, 3, 2)
    assert peer.train_seconds == 200.5
    experiment = Experiment(
        "maze2d", "Maze", "It shows.", "Table 1", {}, "Untuned.", lambda _: found
    )
    text = page(Result(experiment, "c", "small", "d", (0, 1), found, {}, 1.0, False, "2 CPU cores"))
    assert "| IQL (d3rlpy 2.8.1) | 20.5 [" in text
    assert "10-step returns" in text
    assert "200 CPU seconds of training on one thread (A CPU)" in text


def test_a_task_without_first_hits_shows_returns(config: Config, tmp_path: Path) -> None:
    _write(tmp_path / "door-human.json", config, _run(0, first_hit=False))
    peer = with_peers(OWN, tmp_path / "door-human.json", config).rows[1]
    assert (peer.first_hit, peer.success) == (None, None)


def test_without_a_file_nothing_changes(config: Config, tmp_path: Path) -> None:
    assert with_peers(OWN, tmp_path / "maze2d.json", config) is OWN


@pytest.mark.parametrize(
    "change", [{"data.generate.steps": 7000}, {"evaluation.episodes": 4}, {"evaluation.seed": 1}]
)
def test_peers_of_other_data_or_starts_are_left_out(
    change: dict[str, object], config: Config, tmp_path: Path
) -> None:
    _write(tmp_path / "maze2d.json", config, _run(0))
    found = with_peers(OWN, tmp_path / "maze2d.json", override(config, change))
    assert list(found.rows) == list(OWN.rows)
    assert found.notes[1].startswith("Peers are left out: `peers/maze2d.json`")
