"""Peers' rows on an experiment's page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.experiment import Experiment, Findings, Result, Row
from experiments.page import page
from experiments.peers.rows import file_of, with_peers
from experiments.seen import TASK
from ldcq.config import Config, load, override
from services.actor.scores import Estimate

EXPERIMENT = Experiment(
    "maze2d", "Maze", "It shows.", "Table 1", {}, "Untuned.", lambda _: Findings([])
)
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
    file.parent.mkdir(exist_ok=True)
    content = {
        "data": config.data.model_dump(mode="json"),
        "evaluation": {"episodes": 3, "seed": config.evaluation.seed},
        "training": {"cpu_seconds": 200.0, "n_steps": 10, "hidden": [128, 128]},
        "machine": {"processor": "A CPU"},
        "rows": [{"method": "IQL", "library": "d3rlpy 2.8.1", "runs": runs}],
    }
    file.write_text(json.dumps(content))


def test_peers_stand_below_an_experiments_own_rows(config: Config, tmp_path: Path) -> None:
    _write(tmp_path / "peers" / "maze2d.json", config, _run(0), _run(1))
    found = with_peers(OWN, tmp_path, EXPERIMENT, {"maze2d": config})
    own, peer = found.rows
    assert own == OWN.rows[0]
    assert peer.method == "IQL (d3rlpy 2.8.1)"
    assert peer.episode_return is not None
    assert peer.episode_return.mean == 20.5
    assert peer.episode_return.ci_low < 20.5 < peer.episode_return.ci_high
    assert (peer.success, peer.episodes, peer.seeds) == (0.75, 3, 2)
    assert peer.train_seconds == 200.5
    text = page(Result(EXPERIMENT, "c", "small", "d", (0, 1), found, {}, 1.0, False, "2 CPU cores"))
    assert "| IQL (d3rlpy 2.8.1) | 20.5 [" in text
    assert "10-step returns" in text
    assert "200 CPU seconds of training on one thread (A CPU)" in text


def test_a_task_without_first_hits_shows_returns(config: Config, tmp_path: Path) -> None:
    _write(tmp_path / "peers" / "maze2d.json", config, _run(0, first_hit=False))
    peer = with_peers(OWN, tmp_path, EXPERIMENT, {"maze2d": config}).rows[1]
    assert (peer.first_hit, peer.success) == (None, None)


def test_without_a_file_nothing_changes(config: Config, tmp_path: Path) -> None:
    assert with_peers(OWN, tmp_path, EXPERIMENT, {"maze2d": config}) == OWN


@pytest.mark.parametrize(
    "change", [{"data.generate.steps": 7000}, {"evaluation.episodes": 4}, {"evaluation.seed": 1}]
)
def test_peers_of_other_data_or_starts_are_left_out(
    change: dict[str, object], config: Config, tmp_path: Path
) -> None:
    _write(tmp_path / "peers" / "maze2d.json", config, _run(0))
    found = with_peers(OWN, tmp_path, EXPERIMENT, {"maze2d": override(config, change)})
    assert list(found.rows) == list(OWN.rows)
    assert found.notes[1].startswith("Peers are left out: `peers/maze2d.json`")


def test_peers_stand_below_the_rows_of_their_task(config: Config, tmp_path: Path) -> None:
    experiment = replace(EXPERIMENT, tasks=("a", "b", "c"))
    own = [Row(method, {TASK: task}) for task in "abc" for method in ("bc", "ldcq")]
    for task in "ac":
        run = {**_run(0), "success_scores": [0.0, 100.0, 100.0]}
        _write(file_of(tmp_path, experiment, task), config, run)
    found = with_peers(Findings(own), tmp_path, experiment, dict.fromkeys("abc", config))
    assert [(row.settings[TASK], row.method[:4]) for row in found.rows] == [
        *(("a", name) for name in ("bc", "ldcq", "IQL ")),
        *(("b", name) for name in ("bc", "ldcq")),
        *(("c", name) for name in ("bc", "ldcq", "IQL ")),
    ]
    score = found.rows[2].success_score
    assert score is not None
    assert score.mean == pytest.approx(200 / 3)
    assert len(found.notes) == 1, "trained alike, which is said once"


def test_the_same_policies_elsewhere_make_the_same_data(config: Config, tmp_path: Path) -> None:
    def played_by(file: str) -> Config:
        policies = [{"file": file, "noise": [0.1, 0.1]}]
        made = {"kind": "policy", "environment": "Hopper-v5", "policies": policies}
        return override(config, {"data.generate": made})

    _write(tmp_path / "peers" / "maze2d.json", played_by("/there/hopper.npz"), _run(0))
    found = with_peers(OWN, tmp_path, EXPERIMENT, {"maze2d": played_by("/here/hopper.npz")})
    assert len(found.rows) == 2
