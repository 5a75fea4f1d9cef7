"""A scripted driver: keeps to its line, drives whole laps, the same in any number of processes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from common.data import load_episodes, load_task
from common.data.flat_environment import make_registered
from common.data.minari import MinariDataset
from common.data.minari_writing import EpisodeArrays, Recording, write_minari
from common.data.wrappers import RacingView
from common.generators import car_racing
from common.generators.car_racing import GRIP, STEERING, TILE, WHEEL_BASE, RacingLine
from common.generators.car_racing import ScriptedDriver as Driver
from common.generators.playing import play
from ldcq.config import load, override
from ldcq.config.generate import CarRacingConfig
from ldcq.data.episodes import DataError

SECOND = 50  # steps
needs_box2d = pytest.mark.skipif(
    importlib.util.find_spec("Box2D") is None, reason="needs Box2D: pip install 'ldcq[box2d]'"
)


class Short(Driver):
    """Episodes of 40 steps: most of the time goes into drawing."""

    def __init__(self, config: CarRacingConfig) -> None:
        super().__init__(config)
        self.environment = gymnasium.wrappers.TimeLimit(self.environment, 40)


def arrays(episodes: Iterable[EpisodeArrays]) -> list[Any]:
    return [
        array.tobytes()
        for episode in episodes
        for value in vars(episode).values()
        if value is not None
        for array in (value.values() if isinstance(value, dict) else [value])
    ]


@pytest.mark.parametrize(("pace", "aside"), [(1.0, 0.0), (0.7, 3.0), (0.8, -3.0)])
def test_a_circle_is_driven_beside_its_middle_at_the_speed_of_its_bend(
    pace: float, aside: float
) -> None:
    radius = 36.0
    tiles = round(2 * np.pi * radius / TILE)
    headings = np.arange(tiles) * 2 * np.pi / tiles  # to the left; its right is outside
    places = radius * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    drive = RacingLine(np.column_stack([headings, headings, places]), pace, aside)
    position, angle, speed, farthest = places[0].copy(), 0.0, 0.0, 0.0
    for step in range(12 * SECOND):
        forward = np.array([-np.sin(angle), np.cos(angle)])
        wheel, pedal = drive(position, angle, speed * forward)
        assert -1 <= wheel <= 1
        assert -1 <= pedal <= 1
        speed = max(0.0, speed + 2.0 * pedal)
        angle -= speed / SECOND * np.tan(STEERING * wheel) / WHEEL_BASE
        position = position + speed / SECOND * forward
        if step > 3 * SECOND:
            farthest = max(farthest, abs(float(np.linalg.norm(position)) - radius - aside))
    assert farthest < 1.5
    assert speed == pytest.approx(pace * np.sqrt(GRIP * radius), rel=0.1)


def test_it_brakes_before_a_bend() -> None:
    """A straight of 40 tiles, then a hairpin."""
    headings = np.concatenate([np.zeros(40), np.linspace(0, np.pi, 10), np.full(30, np.pi)])
    steps = TILE * np.stack([-np.sin(headings), np.cos(headings)], axis=1)
    track = np.column_stack([headings, headings, np.cumsum(steps, axis=0)])
    pedals = {}
    for tile in (10, 36):
        drive = RacingLine(track, 1.0, 0.0)
        drive._at = tile
        pedals[tile] = drive(track[tile, 2:], 0.0, np.array([0.0, 60.0]))[1]
    assert pedals[10] > 0 > pedals[36]


@needs_box2d
def test_a_lap_is_driven_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(car_racing, "PACES", (1.0, 1.0))
    player = Driver(CarRacingConfig(noise=0.0))
    task: Any = player.environment.unwrapped
    black = np.zeros((96, 96, 3), np.uint8)
    monkeypatch.setattr(
        task, "_render", lambda _mode: black.copy()
    )  # drawing takes most of the time
    lap = player.episode(np.random.SeedSequence(0))
    assert lap.rewards.sum() > 900
    assert lap.terminations[-1]
    assert not lap.truncations.any()


@needs_box2d
def test_processes_change_nothing(tmp_path: Path) -> None:
    config = CarRacingConfig(steps=70)
    one = [*play(Short, config, tmp_path / "1", lambda *_: None, 1)]
    two = [*play(Short, config, tmp_path / "2", lambda *_: None, 2)]
    assert [len(episode.rewards) for episode in one] == [40, 30]
    assert arrays(one) == arrays(two)
    assert arrays(one[:1]) != arrays(one[1:])
    other = Short(CarRacingConfig(steps=70, seed=1))
    seed = np.random.SeedSequence(1, spawn_key=(0,))
    assert arrays([other.episode(seed)]) != arrays(one[:1])
    assert arrays([other.episode(seed)]) == arrays([other.episode(seed)]), "a reset clears all"


@needs_box2d
def test_the_task_plays_in_what_the_data_show(tmp_path: Path) -> None:
    player = Short(CarRacingConfig())
    episode = player.episode(np.random.SeedSequence(0))
    config = load("car-racing")
    recording = Recording([episode], player.environment, player.evaluation, player.metadata)
    write_minari(tmp_path / "datasets", config.data.dataset, recording)
    episodes = load_episodes(config.data, tmp_path, None, config.frames)
    assert episodes.spaces.frames == (1, 48, 48, 3)
    assert (episodes.spaces.state_dim, episodes.spaces.action_dim) == (7, 3)

    named = load_task(config, tmp_path)
    recorded = load_task(override(config, {"evaluation.environment": {}}), tmp_path)
    seen = []
    for task in (named, recorded):
        assert task.max_episode_steps == 1000
        environment = task.make_env()
        seen.append(environment.reset(seed=3)[0])
        environment.close()
    np.testing.assert_equal(seen[0], seen[1])
    dataset = MinariDataset(tmp_path / "datasets" / config.data.dataset)
    assert dataset.make_environment().observation_space == player.environment.observation_space


@needs_box2d
def test_a_picture_is_halved_and_its_bars_are_numbers() -> None:
    environment = RacingView(gymnasium.make("CarRacing-v3"))
    environment.reset(seed=0)
    for _ in range(20):
        observation = environment.step(np.array([0.3, 0.5, 0], np.float32))[0]
    task: Any = environment.unwrapped
    np.testing.assert_allclose(
        observation["image"][5, 7], task.state[10:12, 14:16].mean(axis=(0, 1)), atol=0.5
    )
    assert environment.observation_space.contains(observation)
    speed, *wheels, steered, turning = observation["instruments"]
    assert speed == pytest.approx(np.linalg.norm(task.car.hull.linearVelocity))
    assert speed > 5
    assert min(wheels[2:]) > max(wheels[:2]), "the rear wheels drive"
    assert steered < 0
    assert turning < 0


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "Box2D" else found(name)
    )
    with pytest.raises(DataError, match=r"data.generate: needs Box2D: pip install 'ldcq\[box2d\]'"):
        Driver(CarRacingConfig())
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(DataError, match=r"needs the package 'Box2D'.*pip install 'ldcq\[box2d\]'"):
        make_registered("CarRacing-v3", None)
