"""A new task takes a dataset and a configuration file, and nothing else: here a small maze of one's
own, from its map to scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from common.data import ensure_dataset, load_episodes, load_task
from common.data.maze import find_maze
from common.store import Store
from ldcq.config import load
from tests.command import TINY, run_json

MAP = ["#######", "#R    #", "### # #", "#R  #G#", "#######"]
LIMIT = 120
METHODS = ["ldcq", "bcq_h", "prior", "behaviour"]

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("runs")]


def write_configuration(folder: Path) -> Path:
    """All that the task needs."""
    generate = {"maze": MAP, "steps": 4000, "max_episode_steps": LIMIT}
    task = {
        "base": str(TINY),
        "name": "own-maze",
        "data": {"dataset": "mine/own-maze-v0", "generate": generate},
        "evaluation": {"reference_scores": [0.0, 60.0]},
    }
    path = folder / "own-maze.yaml"
    path.write_text(yaml.safe_dump(task))
    return path


def test_a_configuration_file_makes_the_data_and_the_task(tmp_path: Path) -> None:
    config, store = load(write_configuration(tmp_path)), tmp_path / "store"
    assert ensure_dataset(config.data, store, lambda _done, _all: None)
    episodes, maze = load_episodes(config.data, store), find_maze(MAP)
    assert {maze.cell(state[:2].astype(np.float64)) for state in episodes.observations} <= set(
        maze.free_cells
    )
    task = load_task(config, store)
    assert (task.max_episode_steps, task.reference_scores, task.first_hit) == (LIMIT, (0, 60), True)
    assert task.layout is not None
    np.testing.assert_array_equal(task.layout.goal, maze.centre((3, 5)))
    starts = {maze.cell(task.make_env().reset(seed=seed)[0][:2].astype(float)) for seed in range(9)}
    assert starts == {(1, 1), (3, 1)}


@pytest.mark.slow
def test_a_configuration_file_goes_all_the_way_to_scores(tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = run_json(write_configuration(tmp_path), store)
    assert [row["method"] for row in result["rows"]] == METHODS
    for row in result["rows"]:
        assert row["normalised"]
        assert row["first_hit"]["ci_low"] <= row["first_hit"]["mean"] <= row["first_hit"]["ci_high"]
    assert [row["episodes"] for row in result["rows"][:3]] == [3, 3, 3]
    opened = Store(store)
    version = opened.current("evaluation")
    assert version is not None
    evaluation = opened.load("evaluation", version)
    assert evaluation.meta.details["max_episode_steps"] == LIMIT
    # Nobody walks through the walls of the map.
    maze, positions = find_maze(MAP), evaluation.tensors["ldcq/positions"].reshape(-1, 2)
    known = positions[np.isfinite(positions).all(axis=1)].astype(np.float64)
    assert {maze.cell(position) for position in known} <= set(maze.free_cells)
