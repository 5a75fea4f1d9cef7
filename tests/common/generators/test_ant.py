"""The walking ant: what it sees is the same for every naming of its legs, and it gets there."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from common.data.d4rl_env import ANT_CELL
from common.data.maze import find_maze
from common.generators.ant import is_down, to_actuators, view, walk
from common.generators.ant_maze import Guide

HEADING = -2
"""Where sine and cosine of the heading begin, which no name changes."""
GOAL = np.array([32.75, 24.75])
BENDS = np.array([1.0, -1.0, -1.0, 1.0])


def renamed(state: np.ndarray[Any, Any], quarters: int) -> np.ndarray[Any, Any]:
    """The same ant with its axes turned by quarters about its own z, and its legs renamed so."""
    turned, angle = state.copy(), quarters * np.pi / 2
    w, x, y, z = state[3:7]
    cos, sin = np.cos(angle / 2), np.sin(angle / 2)
    turned[3:7] = w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, w * sin + z * cos
    c, s = np.cos(angle), np.sin(angle)
    turned[18:20] = c * state[18] + s * state[19], c * state[19] - s * state[18]
    legs = (np.arange(4) + quarters) % 4
    for first in (7, 21):
        pairs = state[first : first + 8].reshape(4, 2)[legs]
        pairs[:, 1] *= BENDS[legs] * BENDS
        turned[first : first + 8] = pairs.reshape(-1)
    return turned


def a_state() -> np.ndarray[Any, Any]:
    random = np.random.default_rng(1)
    state = random.standard_normal(29)
    state[3:7] /= np.linalg.norm(state[3:7])
    return state


@pytest.mark.parametrize("quarters", range(4))
def test_an_ant_with_renamed_legs_sees_the_same(quarters: int) -> None:
    state, direction = a_state(), np.array([0.8, 0.6])
    seen, named = view(state, direction)
    again, other = view(renamed(state, quarters), direction)
    np.testing.assert_allclose(seen[:HEADING], again[:HEADING], atol=1e-6)
    turned = np.arctan2(again[HEADING], again[-1]) - np.arctan2(seen[HEADING], seen[-1])
    assert turned % (2 * np.pi) == pytest.approx(quarters * np.pi / 2, abs=1e-6)
    assert (named - other) % 4 == quarters


@pytest.mark.parametrize("degrees", [-60, 150])
def test_the_ant_turns_as_it_is_told_and_back(degrees: int) -> None:
    pytest.importorskip("ogbench", reason="needs ogbench: pip install 'ldcq[ogbench]'")
    from common.data.d4rl_env import D4rlAntMaze

    environment, headings = D4rlAntMaze("large"), []
    observation = environment.reset(seed=0)[0]
    for step in range(160):
        state = np.concatenate([observation["achieved_goal"], observation["observation"]])
        there = np.array([1.0, 0.0]) if step % 40 < 20 else np.array([-1.0, 0.0])
        action = walk(state, there, np.radians(degrees) if step < 80 else 0.0)
        observation = environment.step(action)[0]
        w, z = observation["observation"][[1, 4]]
        headings.append(np.degrees(2 * np.arctan2(z, w)))
    assert np.mean(headings[70:80]) == pytest.approx(degrees, abs=45)
    assert np.mean(headings[150:]) == pytest.approx(0, abs=45)


def test_many_ants_are_each_alone() -> None:
    states = np.stack([renamed(a_state(), quarters) for quarters in range(4)])
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8], [0.6, -0.8]])
    together = walk(states, directions)
    alone = [walk(state, direction) for state, direction in zip(states, directions, strict=True)]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)
    assert np.abs(together).max() <= 1


def test_torques_go_to_the_legs_that_are_meant() -> None:
    hips, ankles = np.arange(1.0, 5.0), np.arange(5.0, 9.0)
    order = [4, 8, 1, 5, 2, -6, 3, -7]  # hip 4, ankle 4, hip 1, ...; two ankles bend the other way
    found = to_actuators(np.concatenate([hips, ankles]), np.array(0))
    assert found.tolist() == order
    turned = to_actuators(np.concatenate([hips, ankles]), np.array(1))
    assert turned[[2, 4, 6, 0]].tolist() == [4, 1, 2, 3], "leg 2 is the first that is seen"


def test_an_ant_on_its_back_is_down() -> None:
    upright, turned = np.zeros((2, 27))
    upright[1] = turned[2] = 1.0
    assert is_down(np.stack([upright, turned])).tolist() == [False, True]


@pytest.mark.parametrize("maze", ["medium", "large"])
def test_a_guide_leads_through_free_cells(maze: str) -> None:
    layout = find_maze(maze)
    guide = Guide(layout, GOAL, np.random.default_rng(0))
    position, visited = guide.place(), set()
    for _ in range(4000):
        position = position + 0.5 * guide.heading(position)
        column, row = np.rint(position / ANT_CELL).astype(int) + 1
        assert not layout.walls[row, column]
        visited.add((row, column))
    assert len(visited) > len(layout.free_cells) / 2


@pytest.mark.parametrize(("homing", "reached"), [(0.0, 0), (0.5, 0.5), (1.0, 1)])
def test_a_share_of_the_ways_leads_to_the_goal(homing: float, reached: float) -> None:
    guide = Guide(find_maze("large"), GOAL, np.random.default_rng(0), homing=homing)
    ends = []
    for _ in range(60):
        position = guide.place()
        guide.heading(position)
        while len(guide._way) > 1:
            position = guide._way[0]
            guide.heading(position)
        ends.append(np.array_equal(guide._way[0], GOAL))
        guide._way = []
    assert np.mean(ends) == pytest.approx(reached, abs=0.15)


def test_a_guide_leads_astray_for_a_share_of_the_steps() -> None:
    layout, steps = find_maze("large"), 6000
    guide = Guide(layout, GOAL, np.random.default_rng(0), strays=0.3)
    position, headings, visited = guide.place(), [np.zeros(2)], set()
    turns = []
    for _ in range(steps):
        headings.append(guide.heading(position))
        turns.append(guide.turn)
        for axis in range(2):  # walls stop one's way, and one slides along them
            moved = position.copy()
            moved[axis] += 0.1 * headings[-1][axis]
            column, row = np.rint(moved / ANT_CELL).astype(int) + 1
            if not layout.walls[row, column]:
                position = moved
                visited.add((row, column))
    kept = [np.array_equal(*pair) for pair in itertools.pairwise(headings)]
    assert np.mean(kept) == pytest.approx(0.3, abs=0.05)
    assert np.mean(np.array(turns) != 0) == pytest.approx(0.3, abs=0.05), "the body turns with it"
    assert 0.9 < np.abs(turns).max() <= np.pi / 3
    assert len(visited) > len(layout.free_cells) / 2, "and it goes on to where it wanted"


def test_the_ant_walks_through_the_maze() -> None:
    pytest.importorskip("ogbench", reason="needs ogbench: pip install 'ldcq[ogbench]'")
    from common.generators.ant_maze import AntNavigation
    from ldcq.config.generate import AntMazeConfig

    player = AntNavigation(AntMazeConfig(maze="medium"))
    first, again = (player.episode(np.random.SeedSequence(1)) for _ in range(2))
    assert isinstance(first.observations, dict)
    assert isinstance(again.observations, dict)
    path = first.observations["achieved_goal"]
    np.testing.assert_array_equal(path, again.observations["achieved_goal"])
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() > 50, "metres"
    assert first.truncations[-1]
    assert not first.terminations.any()
