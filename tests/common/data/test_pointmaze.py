"""The generator: the waypoint protocol, the fast simulation, and the dataset it writes."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium_robotics.envs.maze import maps

from common.data import ensure_dataset, load_episodes
from common.data.environments import POINT_MAZE
from common.data.maze import GOAL_RADIUS, MAZES
from common.data.pointmaze import FastPointMaze, Trajectory, WaypointController, generate
from common.data.pointmaze_env import FixedGoalPointMaze
from ldcq.config import DataConfig, PointMazeConfig
from ldcq.data.episodes import DataError
from tests.common.data.samples import UMAZE

MAPS = {"umaze": maps.U_MAZE, "medium": maps.MEDIUM_MAZE, "large": maps.LARGE_MAZE}


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    return generate(PointMazeConfig(maze="medium", steps=6000, noise=0.5, seed=1))


@pytest.mark.parametrize("name", MAZES)
def test_layouts_and_coordinates_are_those_of_pointmaze(name: str) -> None:
    maze = MAZES[name]
    np.testing.assert_array_equal(maze.walls, np.array(MAPS[name]) == 1)
    environment = FixedGoalPointMaze(maze.name)
    for cell in maze.free_cells:
        np.testing.assert_allclose(
            maze.centre(cell), environment.maze.cell_rowcol_to_xy(np.array(cell))
        )
        assert maze.cell(maze.centre(cell) + np.array([0.4, -0.4])) == cell
    assert maze.goal_cell in maze.free_cells


def test_paths_are_shortest_and_free() -> None:
    maze = MAZES["umaze"]
    assert maze.path((3, 1), (1, 1)) == [(3, 2), (3, 3), (2, 3), (1, 3), (1, 2), (1, 1)]
    assert maze.path((1, 1), (1, 1)) == []
    large = MAZES["large"]
    for start in large.free_cells:
        path = [start, *large.path(start, (7, 9))]
        assert all(not large.walls[cell] for cell in path)
        steps = np.abs(np.diff(np.array(path), axis=0)).sum(axis=1)
        assert (steps == 1).all()


def test_fast_simulation_equals_the_environment_bit_for_bit(trajectory: Trajectory) -> None:
    environment = gymnasium.make("PointMaze_Medium-v3", max_episode_steps=10_000)
    environment.reset(seed=0)
    point = environment.unwrapped
    point.point_env.set_state(trajectory.states[0, :2], trajectory.states[0, 2:])  # type: ignore[attr-defined]
    touched = 0
    for step in range(len(trajectory.actions)):
        observation, *_ = environment.step(trajectory.actions[step])
        np.testing.assert_array_equal(observation["observation"], trajectory.states[step + 1])
        touched += int(point.data.ncon > 0)  # type: ignore[attr-defined]
    assert touched > 20  # walls were hit on the way


def test_fast_simulation_limits_the_speed_as_the_environment() -> None:
    fast, slow = FixedGoalPointMaze("umaze"), FixedGoalPointMaze("umaze")
    simulation = FastPointMaze(fast)
    position, velocity = np.array([0.0, 1.0]), np.array([9.0, -8.0])
    simulation.set_state(position, velocity)
    slow.reset(seed=0)
    slow.point_env.set_state(position, velocity)
    for _ in range(50):
        simulation.step(np.ones(2, np.float32))
        observation, *_ = slow.step(np.ones(2, np.float32))
        np.testing.assert_array_equal(simulation.state, observation["observation"])


def test_trajectory_follows_the_protocol(trajectory: Trajectory) -> None:
    maze = MAZES["medium"]
    assert np.abs(trajectory.actions).max() == 1.0  # clipped, and reached
    stored = np.float64(trajectory.actions)
    assert ((stored > -1) & (stored < 1)).any()
    assert maze.cell(trajectory.states[0, :2]) in maze.free_cells
    for goal in np.unique(trajectory.goals, axis=0):
        cell = maze.cell(goal)
        assert cell in maze.free_cells
        assert np.abs(goal - maze.centre(cell)).max() <= 0.1
    ends = np.flatnonzero(trajectory.cuts)
    assert len(ends) > 20
    lengths = np.diff([-1, *ends])
    distance = np.linalg.norm(trajectory.states[ends + 1, :2] - trajectory.goals[ends], axis=1)
    assert ((distance < 0.1) | (lengths == maze.max_episode_steps)).all()
    changes = np.flatnonzero((np.diff(trajectory.goals, axis=0) != 0).any(axis=1))
    assert set(changes) <= set(ends)


def test_noise_free_actions_are_the_controller_s() -> None:
    maze = MAZES["umaze"]
    controller = WaypointController(maze, 0.0, np.random.default_rng(0))
    position, velocity = maze.centre((3, 1)), np.array([0.2, -0.1])
    controller.set_goal(position, maze.centre((3, 2)) + np.array([0.05, 0.01]))
    expected = np.clip(10 * np.array([1.05, 0.01]) - velocity, -1, 1)
    np.testing.assert_allclose(controller.act(position, velocity), expected, rtol=1e-6)
    assert not controller.reached(position)
    assert controller.reached(controller.goal + np.array([0.09, 0.0]))


def test_generation_is_a_function_of_its_settings() -> None:
    settings = PointMazeConfig(maze="umaze", steps=400, noise=0.5, seed=5)
    first, second = generate(settings), generate(settings)
    np.testing.assert_array_equal(first.states, second.states)
    np.testing.assert_array_equal(first.goals, second.goals)
    other = generate(settings.model_copy(update={"seed": 6}))
    assert not np.array_equal(first.states, other.states)
    longer = generate(settings.model_copy(update={"steps": 500}))
    np.testing.assert_array_equal(first.states, longer.states[:401])


def test_dataset_has_the_evaluation_goal_s_rewards(umaze_store: Path) -> None:
    episodes = load_episodes(UMAZE, umaze_store)
    assert len(episodes.rewards) == 3000
    assert not episodes.terminations.any()
    goal = MAZES["umaze"].centre((1, 1))
    reached = [
        np.linalg.norm(episodes.observations_of(index)[1:, :2] - goal, axis=1) <= GOAL_RADIUS
        for index in range(episodes.count)
    ]
    np.testing.assert_array_equal(episodes.rewards, np.concatenate(reached))
    assert 0 < episodes.rewards.mean() < 0.5
    assert episodes.reference_scores == (23.85, 161.86)
    for index in range(episodes.count - 1):  # one continuous trajectory
        np.testing.assert_array_equal(
            episodes.observations_of(index)[-1], episodes.observations_of(index + 1)[0]
        )


def test_dataset_is_an_ordinary_minari_dataset(
    umaze_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(umaze_store / "datasets"))
    dataset = minari.load_dataset(UMAZE.dataset)
    environment = dataset.recover_environment(eval_env=True)
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == 300
    assert environment.observation_space == dataset.observation_space
    assert environment.observation_space.contains(environment.reset(seed=0)[0])
    np.testing.assert_allclose(minari.get_normalized_score(dataset, np.array([161.86])), 1.0)
    episode = dataset[0]
    assert episode.infos["navigation_goal"].shape == (len(episode.rewards) + 1, 2)


def test_dataset_is_generated_once_and_never_mistaken(umaze_store: Path) -> None:
    def ignore(_done: int, _all: int) -> None: ...

    assert not ensure_dataset(UMAZE, umaze_store, ignore)
    assert UMAZE.generate is not None
    longer = UMAZE.generate.model_copy(update={"steps": 4000})
    with pytest.raises(DataError, match=r"'steps': 3000.* expected .*'steps': 4000"):
        ensure_dataset(UMAZE.model_copy(update={"generate": longer}), umaze_store, ignore)
    bad = UMAZE.model_copy(update={"dataset": "no version"})
    with pytest.raises(DataError, match="expected namespace/name-v0"):
        ensure_dataset(bad, umaze_store, ignore)
    assert not ensure_dataset(DataConfig(dataset="ours/none-v0"), umaze_store, ignore)


def test_interrupted_generation_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_dataset(UMAZE, tmp_path, interrupt)
    assert not list(tmp_path.glob("datasets/**/*"))


def test_evaluation_environment_is_d4rl_s_task() -> None:
    environment = gymnasium.make(POINT_MAZE, maze="large")
    task, maze = environment.unwrapped, MAZES["large"]
    starts = []
    for seed in range(60):
        observation, _ = environment.reset(seed=seed)
        position, velocity = observation["observation"][:2], observation["observation"][2:]
        cell = maze.cell(position)
        assert np.abs(position - maze.centre(cell)).max() <= 0.1
        assert np.linalg.norm(velocity) < 0.6
        np.testing.assert_array_equal(observation["desired_goal"], [3.5, -3.0])
        starts.append(cell)
    assert set(starts) <= set(maze.free_cells)
    assert len(set(starts)) > 20
    again, _ = environment.reset(seed=59)
    np.testing.assert_array_equal(again["observation"], observation["observation"])
    for distance, reward in ((0.48, 1.0), (0.52, 0.0)):
        task.point_env.set_state(np.array([3.5 - distance, -3.0]), np.zeros(2))  # type: ignore[attr-defined]
        _, given, terminated, *_ = environment.step(np.zeros(2, np.float32))
        assert (given, terminated) == (reward, False)


def test_noise_free_controller_scores_in_the_large_maze() -> None:
    environment, maze = gymnasium.make(POINT_MAZE, maze="large"), MAZES["large"]
    returns = []
    for seed in range(8):
        observation, _ = environment.reset(seed=seed)
        controller = WaypointController(maze, 0.0, np.random.default_rng(seed))
        controller.set_goal(observation["achieved_goal"], observation["desired_goal"], jitter=False)
        total, truncated, steps = 0.0, False, 0
        while not truncated:
            state = observation["observation"]
            controller.reached(state[:2])
            action = controller.act(state[:2], state[2:])
            observation, reward, _, truncated, _ = environment.step(action)
            total, steps = total + float(reward), steps + 1
        assert steps == 800
        returns.append(total)
    assert maze.reference_scores is not None
    low, high = maze.reference_scores
    assert 100 * (np.mean(returns) - low) / (high - low) > 150
