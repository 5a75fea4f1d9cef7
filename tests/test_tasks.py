"""Every task of `configs/tasks` on data of its true shapes and keys, made here: from the dataset to
steps in the environment, for Minari's form, for D4RL's and for OGBench's.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from common.data import NoEnvironmentError, load_episodes, load_task
from ldcq.config import Config, load, override, tasks
from ldcq.data.episodes import DataError
from ldcq.data.windows import make_windows
from tests.common.data.samples import write_ogbench

SIZES = {  # numbers of a state and an action, of Minari's form and of the file's
    "maze2d-large": (4, 4, 2),
    "antmaze-medium-diverse": (29, 29, 8),
    "antmaze-large-diverse": (29, 29, 8),
    "kitchen-partial": (59, 60, 9),
    "kitchen-mixed": (59, 60, 9),
    **{f"halfcheetah-{kind}": (17, 17, 6) for kind in ("medium", "medium-replay", "medium-expert")},
    **{f"hopper-{kind}": (11, 11, 3) for kind in ("medium", "medium-replay", "medium-expert")},
    **{f"walker2d-{kind}": (17, 17, 6) for kind in ("medium", "medium-replay", "medium-expert")},
    **{f"pen-{kind}": (45, 45, 24) for kind in ("human", "cloned")},
    **{f"hammer-{kind}": (46, 46, 26) for kind in ("human", "cloned")},
    **{f"door-{kind}": (39, 39, 28) for kind in ("human", "cloned")},
    **{f"relocate-{kind}": (39, 39, 30) for kind in ("human", "cloned")},
    "scene": (40, 40, 5),
    "scene-sparse": (40, 40, 5),
    "cube-double": (37, 37, 5),
}
EPISODES, STEPS = 3, 40
HAS_OGBENCH = importlib.util.find_spec("ogbench") is not None
IMAGES = {"carla-lane", "car-racing"}  # here, and in tests/common/generators
MINARI = [name for name in SIZES if not load(name).data.is_file]
D4RL = [name for name in SIZES if name not in ("scene", "scene-sparse", "cube-double")]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def _empty_minari_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def states(config: Config, size: int) -> np.ndarray[Any, Any]:
    """Shape (EPISODES, STEPS + 1, size); the task is done somewhere."""
    values = np.random.default_rng(0).normal(size=(EPISODES, STEPS + 1, size))
    reward = config.data.reward
    if reward is not None and hasattr(reward, "goal"):
        values[0, 30, list(config.data.goal_indices)] = reward.goal
    elif reward is not None and hasattr(reward, "indices"):
        values[0, 30, reward.indices[13]] = -0.75  # the microwave is open
    return values


def actions(size: int) -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng(1).uniform(-1, 1, (EPISODES, STEPS, size))
    return drawn.astype(np.float32)


def write_minari(config: Config, state: int, action: int) -> None:
    """With Minari's own function; mazes and the kitchen have dictionaries, as there."""
    observed, acted = states(config, state), actions(action)
    ends = np.arange(STEPS) == STEPS - 1
    buffers = [
        EpisodeBuffer(
            id=index,
            observations=_dictionary(config, observed[index]),
            actions=acted[index],
            rewards=np.ones(STEPS),
            terminations=np.zeros(STEPS, np.bool_),
            truncations=ends,
        )
        for index in range(EPISODES)
    ]
    one = _dictionary(config, observed[0])
    minari.create_dataset_from_buffers(
        config.data.dataset,
        buffers,
        observation_space=_space(one),
        action_space=spaces.Box(-1.0, 1.0, (action,), np.float32),
    )


def _dictionary(config: Config, observed: np.ndarray[Any, Any]) -> Any:
    family = config.task.family if config.task else ""
    goals = {"microwave": np.zeros((STEPS + 1, 1)), "kettle": np.zeros((STEPS + 1, 7))}
    place = np.zeros((STEPS + 1, 2))
    if family == "kitchen":
        return {"observation": observed, "achieved_goal": goals, "desired_goal": goals}
    if family == "maze2d":
        return {"observation": observed, "achieved_goal": observed[:, :2], "desired_goal": place}
    if family == "antmaze":
        position, rest = observed[:, :2], observed[:, 2:]
        return {"observation": rest, "achieved_goal": position, "desired_goal": place}
    return observed


def _space(observations: Any) -> Any:
    if isinstance(observations, dict):
        return spaces.Dict({key: _space(value) for key, value in observations.items()})
    return spaces.Box(-np.inf, np.inf, observations.shape[1:], np.float64)


def write_d4rl(config: Config, path: Path, state: int, action: int) -> None:
    """D4RL's arrays: a row for every action, and no next observations."""
    timeouts = np.tile(np.arange(STEPS) == STEPS - 1, EPISODES)
    with h5py.File(path, "w") as file:
        file["observations"] = states(config, state)[:, :STEPS].reshape(-1, state)
        file["actions"] = actions(action).reshape(-1, action)
        file["rewards"] = np.ones(EPISODES * STEPS)
        file["terminals"] = np.zeros(EPISODES * STEPS, np.bool_)
        file["timeouts"] = timeouts


def check(config: Config, store: Path, state: int, action: int) -> None:
    """From the data to three steps."""
    episodes = load_episodes(config.data, store)
    windows = make_windows(episodes, config.horizon, 0.0, 0)
    assert windows.states(np.arange(1)).shape == (1, config.horizon, state)
    assert (episodes.spaces.state_dim, episodes.spaces.action_dim) == (state, action)
    task = load_task(config, store)
    assert task.reference_scores == config.evaluation.reference_scores
    environment = task.make_env()
    try:
        environment.reset(seed=0)
        environment.action_space.seed(0)
        for _ in range(3):
            seen, reward, *_ = environment.step(environment.action_space.sample())
            assert seen.shape == (state,)
            assert np.isfinite(seen).all()
            assert np.isfinite(float(reward))
    finally:
        environment.close()


@pytest.mark.parametrize("name", MINARI)
def test_a_task_on_minari_s_form(name: str, tmp_path: Path) -> None:
    state, _, action = SIZES[name]
    config = load(name)
    write_minari(config, state, action)
    check(config, tmp_path, state, action)


@pytest.mark.parametrize("name", D4RL)
def test_a_task_on_d4rl_s_file(name: str, tmp_path: Path) -> None:
    _, state, action = SIZES[name]
    path = tmp_path / "d4rl.hdf5"
    config = load(name, [f"data.dataset={path}"])
    write_d4rl(config, path, state, action)
    if name.startswith("antmaze") and not HAS_OGBENCH:
        assert load_episodes(config.data, tmp_path).spaces.state_dim == state
        with pytest.raises(DataError, match=r"pip install 'ldcq\[ogbench\]'"):
            load_task(config, tmp_path)
        pytest.skip("its environment needs ogbench: pip install 'ldcq[ogbench]'")
    check(config, tmp_path, state, action)


@pytest.mark.skipif(not HAS_OGBENCH, reason="needs ogbench: pip install 'ldcq[ogbench]'")
@pytest.mark.parametrize("name", ["scene", "cube-double"])
def test_a_task_on_ogbench_s_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}-play-v0.npz"
    write_ogbench(path, f"{name}-v0", 60)
    state, _, action = SIZES[name]
    check(load(name, [f"data.dataset={path}"]), tmp_path, state, action)


class Road(gymnasium.Env[Any, Any]):
    """Frames as D4RL's CARLA has them, flat."""

    observation_space = spaces.Box(0, 255, (48 * 48 * 3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self._frame(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._frame(), float(action[0]), False, False, {}

    def _frame(self) -> Any:
        return self.np_random.integers(0, 256, self.observation_space.shape).astype(np.float32)


def test_carla_s_frames_are_images(tmp_path: Path) -> None:
    path = tmp_path / "carla.hdf5"
    config = load("carla-lane", [f"data.dataset={path}"])
    rows = EPISODES * STEPS
    with h5py.File(path, "w") as file:
        drawn = np.random.default_rng(0).integers(0, 256, (rows, 48 * 48 * 3))
        file["observations"] = drawn.astype(np.float32)
        file["actions"] = actions(2).reshape(-1, 2)
        file["rewards"], file["terminals"] = np.ones(rows), np.zeros(rows, np.bool_)
        file["timeouts"] = np.tile(np.arange(STEPS) == STEPS - 1, EPISODES)
    episodes = load_episodes(config.data, tmp_path, None, config.frames)
    assert episodes.spaces.frames == (1, 48, 48, 3)
    assert len(make_windows(episodes, config.horizon, 0.0, 0)) == EPISODES * (STEPS - 30)
    with pytest.raises(NoEnvironmentError):
        load_task(config, tmp_path)
    gymnasium.register(
        "ldcq/Road-v0", entry_point=lambda **kwargs: Road(**kwargs), max_episode_steps=250
    )
    task = load_task(override(config, {"evaluation.environment": "ldcq/Road-v0"}), tmp_path)
    assert task.max_episode_steps == 250
    assert task.flattening is not None
    environment = task.make_env()
    environment.reset(seed=0)
    for _ in range(3):
        seen = environment.step(np.zeros(2, np.float32))[0]
        assert task.flattening.frames(seen[None]).shape == (1, 1, 48, 48, 3)
    with pytest.raises(DataError, match="expected at most 4096 numbers"):
        load_episodes(config.data, tmp_path)


def test_every_task_is_tried() -> None:
    assert {*SIZES, *IMAGES} == {*tasks()}


def test_the_file_of_another_task_is_named_with_both_shapes(tmp_path: Path) -> None:
    path = tmp_path / "walker2d_medium-v2.hdf5"
    config = load("hopper-medium", [f"data.dataset={path}"])
    write_d4rl(config, path, 17, 6)
    with pytest.raises(DataError, match=r"Hopper-v5 has states of 11 .*walker2d_medium.* of 17"):
        load_task(config, tmp_path)
