"""A maze of one's own: its map decides data, task and drawing."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from common.data import ensure_dataset, load_episodes, load_task
from common.data.maze import GOAL_RADIUS, find_maze
from ldcq.config import Config, DataConfig, PointMazeConfig, load

MAP = ["######", "#R  ##", "###  #", "####G#", "######"]
OWN = DataConfig(
    dataset="ldcq/own-v0",
    observation_keys=("observation",),
    generate=PointMazeConfig.model_validate({"maze": MAP, "steps": 2500, "max_episode_steps": 150}),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    assert ensure_dataset(OWN, root, lambda _done, _all: None)
    return root


def test_the_map_decides_cells_and_goal(store: Path) -> None:
    maze = find_maze(MAP)
    assert (maze.goal_cell, maze.start_cells) == ((3, 4), [(1, 1)])
    assert maze.path((1, 1), (3, 4)) == [(1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]
    unmarked = find_maze([row.replace("R", " ") for row in MAP])
    assert unmarked.start_cells == unmarked.free_cells
    episodes = load_episodes(OWN, store)
    cells = {maze.cell(state[:2]) for state in episodes.observations.astype(np.float64)}
    assert cells == set(maze.free_cells)
    distance = np.linalg.norm(episodes.observations_of(0)[1:, :2] - maze.centre((3, 4)), axis=1)
    np.testing.assert_array_equal(episodes.rewards_of(0), distance <= GOAL_RADIUS)


def test_the_task_has_the_map_its_goal_and_its_limit(store: Path) -> None:
    task = load_task(Config(data=OWN), store)
    assert (task.max_episode_steps, task.first_hit, task.reference_scores) == (150, True, None)
    assert task.layout is not None
    walls = np.array([[cell == "#" for cell in row] for row in MAP])
    np.testing.assert_array_equal(task.layout.walls, walls)
    np.testing.assert_array_equal(task.layout.goal, find_maze(MAP).centre((3, 4)))
    environment = task.make_env()
    for seed in range(5):
        state, _ = environment.reset(seed=seed)
        assert find_maze(MAP).cell(state[:2].astype(np.float64)) == (1, 1)
    assert isinstance(environment.action_space, gymnasium.spaces.Box)


def test_a_dataset_made_before_mazes_had_kinds_is_still_known(tmp_path: Path) -> None:
    import json

    config = load("demo", ["data.generate={maze: umaze, steps: 300}"]).data
    assert ensure_dataset(config, tmp_path, lambda _done, _all: None)
    path = tmp_path / "datasets" / config.dataset / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["ldcq_generator"] = {"maze": "umaze", "steps": 300, "noise": 0.5, "seed": 0}
    path.write_text(json.dumps(metadata))
    assert not ensure_dataset(config, tmp_path, lambda _done, _all: None)
