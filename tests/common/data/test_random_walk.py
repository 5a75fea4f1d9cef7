"""The random walk: its rules, its data, and its way through Minari."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium
import minari
import numpy as np
import pytest

from common.data import ensure_dataset, load_episodes, load_task
from common.data.environments import RANDOM_WALK
from common.data.random_walk import generate
from ldcq.config import Config, DataConfig, PointMazeConfig, RandomWalkConfig
from ldcq.data.episodes import DataError

WALK = DataConfig(dataset="ldcq/walk-v0", generate=RandomWalkConfig(steps=4000, seed=2))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("walk")
    assert ensure_dataset(WALK, root, lambda _done, _all: None)
    return root


def test_the_walk_is_the_papers() -> None:
    environment = gymnasium.make(RANDOM_WALK)
    state, _ = environment.reset(seed=0)
    assert state == 0
    rewards, terminated = [], False
    while not terminated:
        state, reward, terminated, truncated, _ = environment.step(np.array([-0.9], np.float32))
        rewards.append(reward)
        assert not truncated
    assert (state, rewards) == (-10, [-1.0] * 11 + [10.0])
    state, _ = environment.reset(options={"position": 9.0})
    assert environment.step(np.array([7.0], np.float32))[:3] == (10, 10.0, True)
    environment.reset()
    ends = [environment.step(np.zeros(1, np.float32))[3] for _ in range(500)]
    assert ends == [False] * 499 + [True]


def test_actions_come_from_two_modes_with_nothing_between(store: Path) -> None:
    episodes = load_episodes(WALK, store)
    assert len(episodes.rewards) == 4000
    size = np.abs(episodes.actions)
    assert 0.8 <= size.min() < 0.81
    assert 0.99 < size.max() <= 1.0
    assert 0.45 < (episodes.actions > 0).mean() < 0.55


def test_episodes_are_what_the_environment_says(store: Path) -> None:
    episodes = load_episodes(WALK, store)
    for index in range(episodes.count):
        states = episodes.observations_of(index)[:, 0]
        assert states[0] == 0
        assert (np.abs(states[1:-1]) < 10).all()
        last = int(episodes.offsets[index] + episodes.lengths[index]) - 1
        reached = bool(abs(states[-1]) == 10)
        assert bool(episodes.terminations[last]) == reached
        assert bool(episodes.truncations[last]) == (not reached)
        assert episodes.rewards[last] == (10 if reached else -1)
    assert episodes.terminations.sum() > 10


def test_generation_is_a_function_of_its_settings() -> None:
    def actions(seed: int) -> np.ndarray:
        made = generate(RandomWalkConfig(steps=700, seed=seed))
        return np.concatenate([episode.actions for episode in made])

    np.testing.assert_array_equal(actions(3), actions(3))
    assert not np.array_equal(actions(3), actions(4))


def test_the_dataset_brings_its_task(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task(Config(data=WALK, horizon=1), store)
    assert (task.spaces.state_dim, task.spaces.action_dim) == (1, 1)
    assert (task.max_episode_steps, task.first_hit, task.layout) == (500, False, None)
    assert task.reference_scores is None
    assert task.make_env().reset(seed=1)[0] == 0
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(store / "datasets"))
    recovered = minari.load_dataset(WALK.dataset).recover_environment(eval_env=True)
    assert recovered.spec is not None
    assert recovered.spec.max_episode_steps == 500


def test_the_folder_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ensure_dataset(WALK, Path("store"))
    assert load_episodes(WALK, tmp_path / "store").count > 0


def test_it_is_not_mistaken_for_a_maze(store: Path) -> None:
    other = WALK.model_copy(update={"generate": PointMazeConfig(steps=10)})
    with pytest.raises(DataError, match=r"'kind': 'random_walk'.* expected .*'kind': 'pointmaze'"):
        ensure_dataset(other, store, lambda _done, _all: None)


def test_a_record_from_before_a_setting_existed_means_its_default(tmp_path: Path) -> None:
    made = RandomWalkConfig(steps=100)
    assert ensure_dataset(WALK.model_copy(update={"generate": made}), tmp_path)
    path = tmp_path / "datasets" / "ldcq" / "walk-v0" / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["ldcq_generator"]["seed"]
    path.write_text(json.dumps(metadata))
    assert not ensure_dataset(WALK.model_copy(update={"generate": made}), tmp_path)
    other = RandomWalkConfig(steps=100, seed=1)
    with pytest.raises(DataError, match="was generated with"):
        ensure_dataset(WALK.model_copy(update={"generate": other}), tmp_path)


def test_of_two_that_need_the_data_one_makes_them(tmp_path: Path) -> None:
    start = threading.Barrier(2)

    def ensure(_number: int) -> bool:
        start.wait()
        return ensure_dataset(WALK, tmp_path, lambda _done, _all: None)

    with ThreadPoolExecutor(2) as both:
        assert sorted(both.map(ensure, range(2))) == [False, True]
    assert len(load_episodes(WALK, tmp_path).rewards) == 4000
