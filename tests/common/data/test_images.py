"""Datasets and environments with images: what is one, how they are read, what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import WrapperSpec

from common.data import behaviour_episodes, ensure_dataset, load_episodes, load_task
from common.data.environments import POINT_MAZE, recorded_spec
from common.data.flattening import flattening
from common.data.maze import find_maze
from common.data.pointmaze import generate
from common.data.pointmaze_pixels import AGENT, GOAL, MazePainter
from common.store.datasets import known_fingerprint
from ldcq.config import Config, DataConfig, FramesConfig, PointMazeConfig, override
from ldcq.data.episodes import DataError, Float, Pixels

FRAMES = FramesConfig(latent_dim=2, channels=(8, 8))
PIXELS = DataConfig(
    dataset="ldcq/pixels-v0",
    observation_keys=("image", "velocity"),
    generate=PointMazeConfig(maze="umaze", steps=900, pixels=32, seed=3, max_episode_steps=50),
)
IMAGE = spaces.Box(0, 255, (16, 24, 3), np.uint8)


def brightness(frames: Pixels) -> Float:
    """Frames to two numbers, in place of an encoder."""
    mean = frames.reshape(len(frames), -1).mean(axis=1)
    return np.stack([mean, -mean], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pixels")
    assert ensure_dataset(PIXELS, root)
    return root


@pytest.fixture
def config() -> Config:
    return Config(data=PIXELS, frames=FRAMES)


def test_latents_stand_where_the_images_are() -> None:
    space = spaces.Dict({"a": spaces.Box(-9, 9, (1,)), "left": IMAGE, "n": spaces.Discrete(2)})
    space["right"] = IMAGE
    flat = flattening(space, None, "here", FRAMES)
    assert (flat.size, flat.vector_size, flat.frame_shape) == (7, 3, (2, 16, 24, 3))
    assert (flat.offset("left"), flat.offset("n"), flat.offset("right")) == (1, 3, 5)
    left, right = np.full((2, 16, 24, 3), 10, np.uint8), np.full((2, 16, 24, 3), 20, np.uint8)
    right[1] = 30
    seen = {"a": [[5], [6]], "left": left, "n": [0, 1], "right": right}
    expected = [[5, 10, -10, 1, 0, 20, -20], [6, 10, -10, 0, 1, 30, -30]]
    np.testing.assert_array_equal(flat(seen, brightness), expected)
    with pytest.raises(ValueError, match="encode: got none"):
        flat(seen)


def test_channels_may_come_first_and_frames_may_be_flat() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (5, 16, 24, 3)).astype(np.uint8)
    first = spaces.Box(0, 255, (3, 16, 24), np.uint8)
    flat = flattening(first, None, "here", FRAMES)
    assert flat.frame_shape == (1, 16, 24, 3)
    np.testing.assert_array_equal(flat.frames(np.moveaxis(images, -1, 1))[:, 0], images)

    stated = FRAMES.model_copy(update={"shape": (16, 24, 3)})
    row = spaces.Box(0.0, 256.0, (16 * 24 * 3,), np.float32)
    flat = flattening(row, None, "here", stated)
    rows = images.reshape(5, -1).astype(np.float32)
    np.testing.assert_array_equal(flat.frames(rows)[:, 0], images)
    with pytest.raises(DataError, match=r"pixels from 0\.\d+ to .*expected whole numbers from 0"):
        flat.frames(rows / 256 + 0.001)


@pytest.mark.parametrize(
    ("space", "frames", "said"),
    [
        (IMAGE, None, r"\(16, 24, 3\); .*images are not flattened\. frames=\{\} compresses"),
        (spaces.Box(0, 1, (6912,)), None, r"frames=\{shape: \[H, W, C\]\} compresses"),
        (spaces.Box(0, 1, (9,)), FRAMES, "frames: set, but here has no images"),
        (spaces.Box(0, 1, (16, 24, 3)), FRAMES, "images of float32; expected uint8"),
        (spaces.Box(0, 255, (16, 24, 7), np.uint8), FRAMES, "with 1 to 4 channels"),
        (
            spaces.Dict({"a": IMAGE, "b": spaces.Box(0, 255, (8, 8, 1), np.uint8)}),
            FRAMES,
            r"different sizes \(a 16 x 24 x 3, b 8 x 8 x 1\)",
        ),
    ],
)
def test_what_cannot_be_compressed_is_refused_with_what_helps(
    space: Any, frames: FramesConfig | None, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        flattening(space, None, "here", frames)


def test_pictures_are_read_as_they_are_beside_the_velocity(store: Path, config: Config) -> None:
    episodes = load_episodes(config.data, store, None, FRAMES)
    assert episodes.frames is not None
    assert episodes.frames.dtype == np.uint8
    assert episodes.frames.shape[1:] == (1, 32, 32, 3)
    assert episodes.spaces.describe().startswith("states of 2 dimensions, 1 x 32 x 32 x 3 pixels")
    assert config.data.generate is not None
    wanted = generate(PointMazeConfig.model_validate(config.data.generate.model_dump()))
    rows = np.concatenate(
        [np.arange(o, o + n + 1) for o, n in zip(episodes.offsets, episodes.lengths, strict=True)]
    )
    np.testing.assert_allclose(episodes.observations, wanted.states[rows, 2:], rtol=1e-6)
    painted = MazePainter(find_maze("umaze"), 32)(wanted.states[rows, :2])
    np.testing.assert_array_equal(episodes.frames[:, 0], painted)


def test_without_frames_a_dataset_of_images_is_refused(store: Path, config: Config) -> None:
    plain, said = override(config, {"frames": None}), r"'image' are of shape .*frames=\{\} compr"
    with pytest.raises(DataError, match=said):
        load_episodes(plain.data, store)
    with pytest.raises(DataError, match=said):
        load_task(plain, store)


def test_the_fingerprint_is_that_of_the_pictures(store: Path, config: Config) -> None:
    one = load_episodes(config.data, store, None, FRAMES)
    other = load_episodes(config.data, store, 0, FRAMES.model_copy(update={"latent_dim": 9}))
    assert isinstance(other.frames, np.memmap), "on disk, where memory does not take them"
    assert one.fingerprint == other.fingerprint == known_fingerprint(config.data, store)
    velocity = replace_keys(config.data, "velocity")
    assert load_episodes(velocity, store).fingerprint != one.fingerprint


def replace_keys(config: DataConfig, *keys: str) -> DataConfig:
    return config.model_copy(update={"observation_keys": keys})


def test_the_task_shows_pictures_that_become_states_together(store: Path, config: Config) -> None:
    task = load_task(config, store)
    assert (task.max_episode_steps, task.first_hit, task.layout) == (50, True, None)
    assert task.flattening is not None
    assert (task.flattening.size, task.spaces.state_dim) == (4, 2)
    factory = pickle.loads(pickle.dumps(task.make_env))  # noqa: S301
    vector = gymnasium.vector.SyncVectorEnv([factory, factory])
    observe = task.observer(brightness)
    assert observe is not None
    for seen in (vector.reset(seed=[1, 2])[0], vector.step(np.ones((2, 2), np.float32))[0]):
        states = observe(seen)
        assert states.shape == (2, 4)
        assert states.dtype == np.float32
        np.testing.assert_array_equal(states[:, :2], brightness(seen["image"]))
        np.testing.assert_array_equal(states[:, 2:], seen["velocity"].astype(np.float32))
    with pytest.raises(DataError, match="the models were trained without"):
        task.observer(None)
    environment = factory()
    environment.reset(seed=1)
    assert environment.render().shape == (480, 480, 3)


def test_an_environment_of_other_pictures_is_refused(
    store: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = WrapperSpec(
        "PointMazePixels", "common.data.pointmaze_pixels:PointMazePixels", {"pixels": 64}
    )
    plain = recorded_spec(POINT_MAZE, 50, maze="umaze")
    spec = replace(plain, id="ldcq/LargerPixels-v0", additional_wrappers=(larger,))
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    other = override(config, {"evaluation.environment": spec.id})
    with pytest.raises(DataError, match=r"1 x 64 x 64 x 3 pixels .*but .* 1 x 32 x 32 x 3 pixels"):
        load_task(other, store)


def test_the_painter_draws_goal_and_agent_where_they_are() -> None:
    maze = find_maze("umaze")
    place = maze.centre((3, 1))
    image = MazePainter(maze, 50)(place[None])[0]
    row, column = 35, 15  # the centre of cell (3, 1), of 10 x 10 pixels
    assert tuple(image[row, column]) == AGENT
    assert tuple(image[15, 15]) == GOAL
    moved = MazePainter(maze, 50)(place[None] + 0.01)[0]
    assert not np.array_equal(image, moved), "fractions of a pixel are seen"
    assert MazePainter(find_maze(["#####", "#R G#", "#####"]), 32)(np.zeros((2, 2))).shape[0] == 2


def test_runs_of_episodes_are_told_by_their_pictures(store: Path, config: Config) -> None:
    """The generated trajectory is continuous, cut where a goal was reached."""
    images = replace_keys(config.data, "image")
    episodes = load_episodes(images, store, None, FRAMES)
    assert episodes.observations.shape[1] == 0
    assert len(behaviour_episodes(episodes, 10_000)) == 1
    assert episodes.frames is not None
    shuffled = replace(episodes, frames=np.random.default_rng(0).permutation(episodes.frames))
    assert len(behaviour_episodes(shuffled, 10_000)) == episodes.count


def test_a_d4rl_file_of_flat_frames(tmp_path: Path) -> None:
    """As D4RL's CARLA has them: a row of numbers for each picture."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    path = tmp_path / "carla.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = images.reshape(20, -1).astype(np.float32)
        file["actions"] = np.zeros((20, 2), np.float32)
        file["rewards"] = np.zeros(20)
        file["terminals"] = np.zeros(20, bool)
        file["timeouts"] = np.arange(20) % 10 == 9
    config = DataConfig(dataset=str(path))
    stated = FRAMES.model_copy(update={"shape": (16, 16, 3)})
    episodes = load_episodes(config, tmp_path, None, stated)
    assert episodes.frames is not None
    kept = np.concatenate([images[:10], images[10:]])
    np.testing.assert_array_equal(episodes.frames[:, 0], kept[: len(episodes.frames)])
    assert episodes.spaces.frames == (1, 16, 16, 3)
    with pytest.raises(DataError, match=r"frames: set, but .* has no images"):
        load_episodes(config, tmp_path, None, FRAMES)
