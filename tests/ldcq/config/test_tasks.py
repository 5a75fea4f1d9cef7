"""Tasks by name: what their files say, and how their data are replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ldcq.config import ConfigError, load, resolve_variant, tasks
from ldcq.config.loading import TASKS

PAPER = {  # Tables 1 to 4, column LDCQ
    "maze2d-large": 150.1,
    "antmaze-medium-diverse": 68.9,
    "antmaze-large-diverse": 57.7,
    "kitchen-partial": 67.8,
    "kitchen-mixed": 62.3,
    "halfcheetah-medium-expert": 90.2,
    "walker2d-medium-expert": 109.3,
    "hopper-medium-expert": 111.3,
    "halfcheetah-medium": 42.8,
    "walker2d-medium": 69.4,
    "hopper-medium": 66.2,
    "halfcheetah-medium-replay": 41.8,
    "walker2d-medium-replay": 68.5,
    "hopper-medium-replay": 86.2,
    "pen-human": 74.1,
    "hammer-human": 1.5,
    "door-human": 11.8,
    "relocate-human": 0.3,
    "pen-cloned": 47.7,
    "hammer-cloned": 2.8,
    "door-cloned": 1.1,
    "relocate-cloned": -0.2,
    "carla-lane": 24.7,
}
HORIZONS = {  # 5.4, C; racing as CARLA
    **{"maze2d": 30, "antmaze": 30, "kitchen": 20, "locomotion": 10, "carla": 30},
    "racing": 30,
}


def test_every_row_of_the_paper_s_tables_has_a_task() -> None:
    assert {*tasks()} == {*PAPER, "scene", "scene-sparse", "cube-double", "car-racing"}


@pytest.mark.parametrize("name", tasks())
def test_a_task_is_the_paper_s_settings_with_its_own(name: str) -> None:
    config = load(name)
    task, paper = config.task, load("paper")
    assert task is not None
    assert config.name == name
    if name in PAPER:
        assert task.paper["ldcq"][0] == PAPER[name]
        assert task.citation
    assert config.horizon == HORIZONS.get(task.family, 10)
    made = task.generated.dataset if task.generated else None
    assert task.url or made == config.data.dataset
    assert (config.vae, config.prior, config.critic) == (paper.vae, paper.prior, paper.critic)
    assert resolve_variant(config, "bcq_h").data == config.data
    assert config.data.is_file or config.data.download or made == config.data.dataset
    assert task.family == "ogbench" or config.evaluation.reference_scores


def test_a_task_s_own_file_states_only_what_is_its_own() -> None:
    files = [*TASKS.glob("*.yaml")]
    assert len(files) > 20
    for path in files:
        tree = yaml.safe_load(path.read_text())
        assert tree["base"] == "paper" or (TASKS / tree["base"]).is_file()
        assert not {"vae", "prior", "critic", "horizon"} & {*tree}


def test_names_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load("hopper-medium").name == "hopper-medium"
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: hopper-medium\nname: mine\nseed: 3\n")
    assert (load(mine).seed, load(mine).horizon) == (3, 10)
    (tmp_path / "hopper-medium").write_text("base: demo\n")  # a file of one's own comes first
    assert load("hopper-medium").name == "demo"


def test_a_file_of_a_task_keeps_what_is_said_of_the_task(tmp_path: Path) -> None:
    plain, of_file = load("hopper-medium"), load("hopper-medium", ["data.dataset=/x/h.hdf5"])
    assert of_file.data.dataset == "/x/h.hdf5"
    assert of_file.evaluation == plain.evaluation
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: pen-human\ndata: {dataset: mine/pen-v0}\n")
    assert load(mine).evaluation == load("pen-human").evaluation


def test_a_file_in_other_units_brings_its_own_differences() -> None:
    change = "data.dataset=/x/Ant.HDF5"
    minari, d4rl = load("antmaze-large-diverse"), load("antmaze-large-diverse", [change])
    assert minari.evaluation.environment.id == "AntMaze_Large-v5"
    assert d4rl.evaluation.environment.id == "ldcq/D4rlAntMaze-v0"
    assert d4rl.evaluation.environment.kwargs == {"maze": "large"}
    assert d4rl.data.observation_keys == minari.data.observation_keys
    chosen = load("antmaze-large-diverse", ["evaluation.environment=Mine-v0", change])
    assert chosen.evaluation.environment.id == "Mine-v0"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hopper-medium-v2", "did you mean 'hopper-medium'?"),
        ("hopper-medum", "did you mean 'hopper-medium' or"),
        ("halfcheetah-random-v2", "did you mean 'halfcheetah-medium' or"),
        ("/data/hopper_medium-v2.hdf5", "name its task, and the file in --set data.dataset=/data/"),
        ("nothing-like-it", "or a task; `ldcq tasks` lists the tasks"),
    ],
)
def test_a_name_that_is_none_leads_to_one(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match="expected a YAML file or a preset") as raised:
        load(name)
    assert message in str(raised.value)


def test_rewards_that_do_not_go_with_the_data_are_refused() -> None:
    goal = ["data.goal_indices=[0]", "data.reward={kind: sparse, goal: [1.0]}"]
    with pytest.raises(ConfigError, match=r"'sparse', expected 'recorded' or null, .* images"):
        load("carla-lane", goal)
    with pytest.raises(ConfigError, match=r"'ogbench', expected another for '/x/scene\.hdf5'"):
        load("scene", ["data.dataset=/x/scene.hdf5"])


def test_the_two_keys_of_an_ogbench_task_agree() -> None:
    other = "evaluation.environment=ogbench:scene-singletask-task3-v0"
    with pytest.raises(ConfigError) as raised:
        load("scene", [other])
    for part in (
        "data.reward.task is 'scene-singletask-v0'",
        "'ogbench:scene-singletask-task3-v0'",
    ):
        assert part in str(raised.value)
    with pytest.raises(ConfigError, match="expected the same task"):
        load("scene", ["evaluation.environment=scene-singletask-task3-v0"])
    load("scene", [other, "data.reward.task=scene-singletask-task3-v0"])
    load("scene", ["evaluation.environment=mine.tasks:Scene-v0"])  # whose task is its own affair
