"""Environments by id, by what data record, with settings and wrappers."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from common.data import load_task
from common.data.environments import FRANKA_KITCHEN, POINT_MAZE, RANDOM_WALK, recorded_spec
from common.data.flat_environment import make_registered
from common.data.minari import MinariDataset
from ldcq.config import Config, ConfigError, override
from ldcq.data.episodes import DataError
from tests.common.data.samples import UMAZE

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RECORDED = {"data.reward": {"kind": "recorded"}}  # also where they are of another goal


class Halved(gymnasium.RewardWrapper[Any, Any]):
    """Half the rewards."""

    def reward(self, reward: Any) -> float:
        return float(reward) / 2


class Plain(gymnasium.Env[Any, Any]):
    """An environment that cannot be rendered, and takes no `render_mode`."""

    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, drag: float) -> None:
        self.drag = drag


def not_an_environment(_: object) -> int:
    return 3


def breaks(_: object) -> None:
    raise KeyError("what it needs")


@pytest.fixture
def config() -> Config:
    return Config(data=UMAZE)


@pytest.mark.parametrize("name", [POINT_MAZE, RANDOM_WALK, FRANKA_KITCHEN])
def test_the_projects_own_are_registered(name: str) -> None:
    environment = gymnasium.make(f"common.data.environments:{name}")
    assert environment.spec is not None
    assert environment.spec.id == name
    environment.reset(seed=0)
    environment.step(environment.action_space.sample())
    environment.close()


def test_they_are_played_in_by_id_with_keyword_arguments(config: Config, umaze_store: Path) -> None:
    wanted = {"id": POINT_MAZE, "kwargs": {"maze": "umaze"}, "max_episode_steps": 300}
    by_id = load_task(override(config, {"evaluation.environment": wanted}), umaze_store)
    recorded = load_task(config, umaze_store)
    assert by_id.max_episode_steps == recorded.max_episode_steps == 300
    first, second = by_id.make_env(), recorded.make_env()
    np.testing.assert_array_equal(first.reset(seed=4)[0], second.reset(seed=4)[0])
    assert by_id.layout is not None
    assert recorded.layout is not None
    np.testing.assert_array_equal(by_id.layout.walls, recorded.layout.walls)
    assert by_id.first_hit


def test_data_recorded_before_there_were_ids_are_recovered(
    umaze_store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(umaze_store / "datasets/ldcq/umaze-v0", folder)
    path = folder / "data/metadata.json"
    metadata = json.loads(path.read_text())
    assert json.loads(metadata["eval_env_spec"])["id"] == POINT_MAZE
    old = recorded_spec(POINT_MAZE, 300, maze="umaze")
    text = old.to_json().replace("ldcq/PointMaze-v0", "ldcq/PointMaze-umaze-v0")
    path.write_text(json.dumps(metadata | {"eval_env_spec": text, "env_spec": text}))
    environment = MinariDataset(folder).make_environment()
    assert environment.spec is not None
    assert environment.spec.id == "ldcq/PointMaze-umaze-v0"
    assert environment.spec.max_episode_steps == 300
    np.testing.assert_array_equal(environment.reset(seed=0)[0]["desired_goal"], [-1, 1])


def test_what_data_record_takes_settings_wrappers_and_a_time_limit(
    config: Config, umaze_store: Path
) -> None:
    wanted = {"kwargs": {"maze": "large"}, "wrappers": [f"{__name__}:Halved"]}
    environment = {**wanted, "max_episode_steps": 77}
    changed = override(config, {"evaluation.environment": environment, **RECORDED})
    task = load_task(changed, umaze_store)
    assert task.max_episode_steps == 77
    assert task.layout is not None
    assert task.layout.walls.shape == (9, 12)
    made = pickle.loads(pickle.dumps(task.make_env))()  # noqa: S301
    assert isinstance(made.env, Halved)
    state, _ = made.reset(seed=0)
    assert state.shape == (4,)
    made.unwrapped.point_env.set_state(np.array([3.5, -3.0]), np.zeros(2))
    assert made.step(np.zeros(2))[1] == 0.5


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"id": POINT_MAZE, "kwargs": {"labyrinth": 1}},
            "'ldcq/PointMaze-v0' cannot be made with {'labyrinth': 1}",
        ),
        ({"kwargs": {"labyrinth": 1}}, "'ldcq/PointMaze-v0', which ldcq/umaze-v0 records, cannot"),
        (
            {"wrappers": [f"{__name__}:breaks"]},
            f"evaluation.environment.wrappers: '{__name__}:breaks' cannot wrap",
        ),
        ({"wrappers": [f"{__name__}:not_an_environment"]}, "returns int, expected a gymnasium.Env"),
        ({"wrappers": ["no.such:Thing"]}, "'no.such:Thing': cannot import no.such"),
        ({"wrappers": [f"{__name__}:Nothing"]}, "has no function Nothing"),
    ],
)
def test_what_cannot_be_made_is_explained(
    environment: dict[str, Any], message: str, config: Config, umaze_store: Path
) -> None:
    changed = override(config, {"evaluation.environment": environment})
    with pytest.raises((DataError, ConfigError)) as error:
        load_task(changed, umaze_store)
    assert message in str(error.value)
    assert "evaluation.environment" in str(error.value)


def test_an_environment_need_not_take_a_render_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = gymnasium.envs.registration.EnvSpec("Plain-v0", entry_point=f"{__name__}:Plain")
    monkeypatch.setitem(gymnasium.registry, "Plain-v0", spec)
    made = make_registered("Plain-v0", None, drag=0.5).unwrapped
    assert isinstance(made, Plain)
    assert made.drag == 0.5
