"""`data.reward`: what it takes, and what it says of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ldcq.config import ConfigError, dump, load, override
from ldcq.config.reward import KINDS, KitchenSubtasksReward, SparseReward, StepCostReward

OBJECTS = [*range(18, 39)]


def test_the_default_is_the_datas_own_reward() -> None:
    assert load("demo").data.reward is None


@pytest.mark.parametrize(
    "reward",
    [
        {"kind": "sparse", "goal": [1.0, 2.0]},
        {"kind": "step_cost", "goal": [1.0, 2.0], "threshold": 0.2, "terminates": True},
        {"kind": "kitchen_subtasks", "indices": OBJECTS, "subtasks": ["kettle"]},
        {"kind": "recorded", "shift": -1.0, "scale": 0.5},
    ],
)
def test_every_kind_comes_back_from_its_yaml(reward: dict[str, object], tmp_path: Path) -> None:
    config = override(load("demo"), {"data.reward": reward})
    assert config.data.reward is not None
    assert config.data.reward.kind == reward["kind"] in KINDS
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load(tmp_path / "config.yaml") == config


def test_another_kind_is_another_reward() -> None:
    sparse = override(load("demo"), {"data.reward": {"kind": "sparse", "goal": [1, 2]}})
    shifted = override(sparse, {"data.reward": {"shift": -1.0}}).data.reward
    assert shifted == SparseReward(goal=(1, 2), shift=-1)
    cost = {"kind": "step_cost", "goal": [3, 4]}
    assert override(sparse, {"data.reward": cost}).data.reward == StepCostReward(goal=(3, 4))
    kitchen = override(sparse, {"data.reward": {"kind": "kitchen_subtasks", "indices": OBJECTS}})
    assert kitchen.data.reward == KitchenSubtasksReward(indices=tuple(OBJECTS))


def test_rewards_are_said_of_one_dataset() -> None:
    assert load("paper").data.reward == SparseReward(goal=(3.5, -3.0))
    assert load("paper", ["data.dataset=mine/robot-v0"]).data.reward is None


def test_a_score_knows_no_shift_and_no_scale() -> None:
    reward = {"kind": "sparse", "goal": [1, 2], "shift": -1.0, "scale": 3.0}
    data = override(load("demo"), {"data.reward": reward}).data
    assert data.scored.reward == SparseReward(goal=(1, 2))
    assert load("demo").data.scored == load("demo").data


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("{goal: [1, 2]}", "data.reward: no kind given, expected one of sparse, step_cost, kitc"),
        (
            "{kind: sprase, goal: [1, 2]}",
            "data.reward: kind 'sprase' given, expected one of",
        ),
        ("{kind: sparse}", "data.reward.goal: "),
        ("{kind: sparse, goal: []}", "data.reward.goal: "),
        ("{kind: sparse, goal: [1]}", r"reward.goal is \[1.0\], expected one number for every ent"),
        ("{kind: sparse, goal: [x, 1]}", "data.reward.goal.0: got 'x'; .*valid number"),
        ("{kind: sparse, goal: [.nan, 1]}", "data.reward.goal.0: got nan; .*finite number"),
        ("{kind: sparse, goal: [1, 2], threshold: 0}", "threshold: got 0; .*greater than 0"),
        ("{kind: sparse, goal: [1, 2], radius: 1}", "data.reward.radius: unknown key; .*threshold"),
        ("{kind: recorded, goal: [1, 2]}", "data.reward.goal: unknown key; .*kind, scale, shift"),
        ("{kind: recorded, scale: 0}", "data.reward.scale: got 0, with which all rewards are"),
        ("{kind: recorded, shift: much}", "data.reward.shift: got 'much'"),
        ("{kind: kitchen_subtasks}", "data.reward.indices: "),
        ("{kind: kitchen_subtasks, indices: [1, 2]}", "data.reward.indices: got 2 entries, .* 21"),
        (f"{{kind: kitchen_subtasks, indices: {[1] * 21}}}", "indices: got 1 twice, expected it"),
        (
            f"{{kind: kitchen_subtasks, indices: {OBJECTS}, subtasks: [oven]}}",
            "data.reward.subtasks.0: got 'oven'; .*'microwave' or 'kettle'",
        ),
        (
            f"{{kind: kitchen_subtasks, indices: {OBJECTS}, subtasks: [kettle, kettle]}}",
            "data.reward.subtasks: got 'kettle' twice, expected it once",
        ),
    ],
)
def test_mistakes_are_named_with_what_is_expected(reward: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load("demo", [f"data.reward={reward}"])


def test_a_generator_of_another_kind_takes_over_nothing(tmp_path: Path) -> None:
    """What the paper's dataset is rewarded for is no matter of a random walk."""
    path = tmp_path / "walk.yaml"
    path.write_text("base: paper\ndata: {dataset: my/walk-v0, generate: {kind: random_walk}}\n")
    data = load(path).data
    assert (data.reward, data.observation_keys, data.goal_indices) == (None, None, ())
    assert data.generate is not None
    path.write_text("base: demo\ndata: {dataset: my/walk-v0, generate: {kind: random_walk}}\n")
    assert load(path).data.goal_indices == ()
    path.write_text("base: demo\ndata: {dataset: my/maze-v0, generate: {kind: pointmaze}}\n")
    assert load(path).data.goal_indices == (0, 1)
