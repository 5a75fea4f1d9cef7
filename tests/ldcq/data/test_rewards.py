"""Rewards of one task over data that were recorded for another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ldcq.config import DataConfig
from ldcq.config.reward import KITCHEN_OBJECTS
from ldcq.data.episodes import DataError, Episode, Episodes, Spaces, join_episodes
from ldcq.data.rewards import KITCHEN, KITCHEN_RADIUS, relabelled, subtask_distances

BOUNDS = np.ones(1, np.float32)
GOAL = {"goal": [5.0], "threshold": 0.5}


def walks(*positions: list[float], terminal: bool = False, seen: bool = True) -> Episodes:
    """Episodes of one entry, its position; actions count their steps over all episodes."""
    parts, steps = [], 0
    for walk in positions:
        count = len(walk) - 1
        last = np.arange(count) == count - 1
        parts.append(
            Episode(
                np.array(walk)[:, None],
                np.arange(steps, steps + count)[:, None] / 100,
                np.full(count, 9.0),
                last & terminal,
                last & (not terminal),
                seen,
            )
        )
        steps += count
    return join_episodes(parts, Spaces.box(1, -BOUNDS, BOUNDS), "walks")


def config(**reward: Any) -> DataConfig:
    return DataConfig.model_validate({"goal_indices": [0], "reward": reward})


def sparse(**changes: Any) -> DataConfig:
    return config(**{"kind": "sparse", **GOAL, **changes})


def test_a_step_is_rewarded_for_the_state_that_it_leads_to() -> None:
    data = walks([3, 4, 5, 6], [5, 5.5, 4.4])
    found = relabelled(data, sparse())
    assert found.rewards.tolist() == [0, 1, 0, 1, 0]
    assert found.rewards.dtype == np.float32
    costs = relabelled(data, config(kind="step_cost", **GOAL))
    assert costs.rewards.tolist() == [-1, 0, -1, 0, -1]
    # Nothing else is touched, and what was recorded has its fingerprint.
    assert found.observations is data.observations
    assert found.fingerprint == costs.fingerprint == data.fingerprint
    assert data.rewards.tolist() == [9] * 5
    assert relabelled(data, DataConfig()) is data


def test_every_kind_is_scaled_then_shifted() -> None:
    data = walks([3, 4, 5])
    changes = {"scale": 2.0, "shift": -1.0}
    assert relabelled(data, sparse(**changes)).rewards.tolist() == [-1, 1]
    cost = config(kind="step_cost", **GOAL, **changes)
    assert relabelled(data, cost).rewards.tolist() == [-3, -1]
    assert relabelled(data, config(kind="recorded", **changes)).rewards.tolist() == [17, 17]


def test_recorded_rewards_keep_the_recorded_ends() -> None:
    data = walks([3, 4, 5], terminal=True)
    assert relabelled(data, config(kind="recorded")).terminations.tolist() == [False, True]


def test_what_terminated_in_another_task_is_cut_in_this_one() -> None:
    found = relabelled(walks([5, 5, 7], [1, 2], terminal=True), sparse())
    assert not found.terminations.any()
    assert found.truncations.tolist() == [False, True, True]
    assert found.lengths.tolist() == [2, 1]


def test_an_episode_ends_at_the_goal_and_data_that_go_on_begin_another_after_it() -> None:
    data = walks([3, 4, 5, 5.2, 6, 7, 5, 8, 9], [5, 6, 6], [1, 2])
    found = relabelled(data, sparse(terminates=True))
    assert [found.observations_of(index)[:, 0].tolist() for index in range(found.count)] == [
        [3, 4, 5],
        [6, 7, 5],
        [8, 9],
        [6, 6],
        [1, 2],
    ]
    np.testing.assert_allclose(found.actions[:, 0], [0, 0.01, 0.04, 0.05, 0.07, 0.09, 0.1])
    assert found.rewards.tolist() == [0, 1, 0, 1, 0, 0, 0]
    assert found.terminations.tolist() == [False, True, False, True, False, False, False]
    assert found.truncations.tolist() == [False, False, False, False, True, True, True]
    assert found.fingerprint == data.fingerprint


def test_arrays_that_lose_steps_are_made_where_there_is_room() -> None:
    made = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> Any:
        made.append(shape)
        return np.empty(shape, dtype)

    relabelled(walks([3, 5, 6, 7]), sparse(terminates=True), allocate)
    assert made[:2] == [(4, 1), (2, 1)]  # two episodes of one step each


def test_a_step_whose_next_state_was_not_recorded_has_no_reward() -> None:
    """It repeats the state before, here the goal."""
    data = walks([3, 4, 5, 5], [1, 2, 2], terminal=True, seen=False)
    found = relabelled(data, sparse())
    assert found.lengths.tolist() == [2, 1]
    assert found.rewards.tolist() == [0, 1, 0]
    assert found.truncations.tolist() == [False, True, True]
    assert found.ends_seen.all()
    assert relabelled(data, config(kind="recorded")).ends_seen.tolist() == [False, False]


def test_data_without_any_reward_are_refused_with_the_nearest_state() -> None:
    with pytest.raises(DataError) as error:
        relabelled(walks([3, 4, 3], [0, 1, 4.25, 2]), sparse())
    message = str(error.value)
    assert "5 steps of walks were looked at, and none comes to the goal [5.0]" in message
    assert "[4.25], 0.75 away, after step 2 of episode 1, expected 0.5 or less" in message
    with pytest.raises(DataError, match="all 2 steps of walks start where the task is done"):
        relabelled(walks([5, 5, 5]), sparse(terminates=True))


def test_entries_that_a_state_has_not_are_refused() -> None:
    changed = DataConfig.model_validate(
        {"goal_indices": [1], "reward": {"kind": "sparse", "goal": [5]}}
    )
    with pytest.raises(DataError, match=r"data.goal_indices: got 1, .* a state of walks, 0 to 0"):
        relabelled(walks([3, 5]), changed)
    kitchen = config(kind="kitchen_subtasks", indices=[*range(KITCHEN_OBJECTS)])
    with pytest.raises(DataError, match=r"data.reward.indices: got 20, expected .* 0 to 0"):
        relabelled(walks([3, 5]), kitchen)


FIRST = {60: 9, 59: 18}
"""Where the objects begin in a state: in D4RL's files, and in Minari's."""


def kitchen_data(*done: set[str], size: int) -> Episodes:
    """One episode, in whose states these subtasks are done and all other objects are far off."""
    states = np.full((len(done), size), 50.0, np.float32)
    for state, names in zip(states, done, strict=True):
        for name, (entries, goal) in KITCHEN.items():
            off = np.zeros(len(goal))
            off[0] = 0.29 if name in names else 0.31
            state[[FIRST[size] + entry for entry in entries]] = goal + off
    flags = np.zeros(len(done) - 1, np.bool_)
    part = Episode(states, np.zeros((len(flags), 1)), np.zeros(len(flags)), flags, flags)
    return join_episodes([part], Spaces.box(size, -BOUNDS, BOUNDS), "kitchen")


@pytest.mark.parametrize("size", FIRST)
def test_the_kitchen_counts_what_is_done_at_every_step(size: int) -> None:
    first, asked = {"kettle"}, {"microwave", "kettle", "bottom burner", "light switch"}
    others = {"slide cabinet", "top burner"}
    data = kitchen_data(
        set(), first, others, {*first, *others}, asked, {*asked, *others}, size=size
    )
    reward = {
        "kind": "kitchen_subtasks",
        "indices": [*range(FIRST[size], FIRST[size] + KITCHEN_OBJECTS)],
    }
    found = relabelled(data, config(**reward))
    assert found.rewards.tolist() == [1, 0, 1, 4, 4]  # none is removed once it was done
    assert not found.terminations.any()
    ended = relabelled(data, config(**reward, terminates=True, shift=-4.0))
    assert ended.rewards.tolist() == [-3, -4, -3, 0]
    assert ended.terminations.tolist() == [False, False, False, True]
    scored = relabelled(data, config(**reward, shift=-4.0).scored)
    assert scored.rewards.tolist() == [1, 0, 0, 3, 0], "each once, as the environment counts"
    fewer = relabelled(data, config(**reward, subtasks=["slide cabinet"]))
    assert fewer.rewards.tolist() == [0, 1, 1, 0, 1]
    with pytest.raises(DataError, match=r"5 steps .* none of the subtasks hinge cabinet is done.*"):
        relabelled(data, config(**reward, subtasks=["hinge cabinet"]))


def test_subtasks_are_counted_once_in_every_episode() -> None:
    size = min(FIRST)
    one = kitchen_data({"kettle"}, {"kettle", "microwave"}, set(), {"microwave"}, size=size)
    parts = [
        Episode(
            one.observations,
            one.actions,
            one.rewards,
            one.terminations,
            one.truncations,
        )
    ]
    twice = join_episodes(parts * 2, one.spaces, "kitchen")
    indices = [*range(FIRST[size], FIRST[size] + KITCHEN_OBJECTS)]
    found = relabelled(twice, config(kind="kitchen_subtasks", indices=indices, once=True))
    assert found.rewards.tolist() == [1, 0, 0, 1, 0, 0], "what an episode begins with is not gained"


@pytest.mark.filterwarnings("ignore")
def test_the_kitchen_is_that_of_gymnasium_robotics() -> None:
    kitchen = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    robot = 9
    assert {name: list(entries) for name, (entries, _) in KITCHEN.items()} == {
        name: (entries - robot).tolist() for name, entries in kitchen.OBS_ELEMENT_INDICES.items()
    }
    assert {name: list(goal) for name, (_, goal) in KITCHEN.items()} == {
        name: goal.tolist() for name, goal in kitchen.OBS_ELEMENT_GOALS.items()
    }
    assert kitchen.BONUS_THRESH == KITCHEN_RADIUS
    states = np.random.default_rng(0).normal(size=(5, 59)).astype(np.float32)
    found = subtask_distances(states, ["kettle"], [*range(18, 39)])
    goal = kitchen.OBS_ELEMENT_GOALS["kettle"]
    expected = [np.linalg.norm(state[18:39][-7:] - goal) for state in states]
    np.testing.assert_allclose(found[:, 0], expected)


def test_sparse_rewards_of_ogbench_s_tasks_know_no_parts() -> None:
    done, undone = walks([0, 1, 2, 3], terminal=True), walks([0, 1, 2, 3])
    parts = np.array([-2, -1, 0], np.float32)
    task = {"kind": "ogbench", "task": "scene-singletask-v0"}
    data = replace(done, rewards=parts)
    assert relabelled(data, config(**task)).rewards.tolist() == [-2, -1, 0]
    learned = config(**task, sparse=True, shift=1.0)
    assert relabelled(data, learned).rewards.tolist() == [0, 0, 1]
    assert relabelled(data, learned.scored).rewards.tolist() == [-2, -1, 0], "as the task scores"
    with pytest.raises(DataError, match=r"none of 3 steps of walks does scene.*sparse=false"):
        relabelled(replace(undone, rewards=parts), learned)
