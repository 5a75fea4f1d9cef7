"""How latents are executed: shorter plans near the goal, candidates in few draws, plans dropped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.config import ConfigError, SamplingConfig
from ldcq.policies.base import (
    Candidates,
    Execution,
    LatentPlanPolicy,
    NearGoal,
    StatefulPolicy,
    derive_seed,
)
from tests.ldcq.policies.standins import NoisePrior, decoder

STATES = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)


class Still(LatentPlanPolicy):
    """Always the same latent; remembers which goals it was given."""

    def choose(self, states: np.ndarray, goals: np.ndarray | None, seed: int) -> np.ndarray:
        del seed
        self.given = goals
        return np.zeros((len(states), 2), np.float32)


def policy(near: NearGoal | None, pursued_dim: int = 0) -> Still:
    return Still(decoder(), Execution(8, near_goal=near), pursued_dim)


def test_plans_made_near_the_goal_are_shorter() -> None:
    near = policy(NearGoal((2, 0), distance=1.0, execute_steps=3))
    assert near.goal_dim == 2, "such a policy asks for goals"
    # The goal is (x_2, x_0) = (10, 20): distances 0, 1.3 and, were entries swapped, 0.
    states = np.array([[20, 0, 10], [19.5, 0, 8.8], [10, 0, 20]], np.float32)
    goals = np.tile(np.array([10, 20], np.float32), (3, 1))
    _, plan = near.act(states, goals, None, None, 0)
    assert plan.steps_left.tolist() == [2, 7, 7]
    assert near.given is None, "it does not pursue goals: it is not given any"
    moved = states[[0, 0, 0]]
    for _ in range(2):
        _, plan = near.act(moved, goals, plan, None, 0)
    assert plan.steps_left.tolist() == [0, 5, 5], "only a new plan is shorter"
    _, plan = near.act(moved, goals, plan, None, 0)
    assert plan.steps_left.tolist() == [2, 4, 4]


def test_without_the_option_goals_change_nothing() -> None:
    far = policy(None)
    assert far.goal_dim == 0
    states, goals = np.zeros((2, 3), np.float32), np.zeros((2, 2), np.float32)
    _, plan = far.act(states, goals, None, None, 0)
    assert plan.steps_left.tolist() == [7, 7]


def test_a_policy_that_pursues_goals_is_given_them() -> None:
    near = policy(NearGoal((0, 1), distance=1.0, execute_steps=3), pursued_dim=2)
    goals = np.full((2, 2), 7, np.float32)
    near.act(np.zeros((2, 3), np.float32), goals, None, None, 0)
    assert near.given is not None
    np.testing.assert_array_equal(near.given, goals)


def test_candidates_come_in_as_few_draws_as_the_prior_allows() -> None:
    prior, sampling = NoisePrior(goal_dim=2, max_rows=9), SamplingConfig(temperature=0.5)
    goals = np.arange(6, dtype=np.float32).reshape(3, 2)
    drawn = Candidates(prior, 4, sampling)(STATES, goals, seed=7)
    assert [len(draw.states) for draw in prior.draws] == [2, 1]
    assert {draw.options for draw in prior.draws} == {sampling}
    assert len({draw.seed for draw in prior.draws}) == 2
    asked = [draw.goals for draw in prior.draws if draw.goals is not None]
    np.testing.assert_array_equal(np.concatenate(asked), goals)
    np.testing.assert_array_equal(drawn, np.concatenate([*map(prior.latents, prior.draws)]))
    plain = NoisePrior()
    assert Candidates(plain, 4, sampling)(STATES, goals, seed=7).shape == (3, 4, 2)
    assert [draw.goals for draw in plain.draws] == [None], "a prior without goals is given none"
    with pytest.raises(ConfigError, match=r"actor.candidates is 10, expected at most 9"):
        Candidates(prior, 10, sampling)


def test_seeds_differ_by_every_part_and_fit_the_wire() -> None:
    seeds = {derive_seed(*parts) for parts in [(0, 1), (1, 0), (0, 11), (0, 1, 0), (0,)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(3, "a") == derive_seed(3, "a")


class Counting(LatentPlanPolicy):
    """Its n-th choice is n, for every state it is asked about; remembers those states."""

    def __init__(self) -> None:
        super().__init__(decoder(), Execution(3))
        self.asked: list[list[int]] = []
        self.seeds: list[int] = []

    def choose(self, states: np.ndarray, goals: np.ndarray | None, seed: int) -> np.ndarray:
        del goals
        self.asked.append([STATES.tolist().index(state) for state in states.tolist()])
        self.seeds.append(seed)
        return np.full((len(states), 2), len(self.asked), np.float32)


def test_a_reset_drops_the_plans_of_the_environments_that_it_names() -> None:
    choices = Counting()
    acting = StatefulPolicy(choices)
    acting.act(STATES)
    acting.reset(np.array([False, True, False]))
    acting.act(STATES)
    assert choices.asked == [[0, 1, 2], [1]]
    acting.act(STATES)  # the third step of plans of 3 steps, the second of the new one
    assert choices.asked == [[0, 1, 2], [1]]
    acting.act(STATES)
    assert choices.asked == [[0, 1, 2], [1], [0, 2]]


def test_resets_between_two_steps_add_up_and_hold_for_one_step() -> None:
    choices = Counting()
    acting = StatefulPolicy(choices)
    acting.act(STATES)
    first, last = np.array([True, False, False]), np.array([False, False, True])
    acting.reset(first)
    acting.reset(last)
    acting.act(STATES)
    acting.act(STATES)
    assert choices.asked == [[0, 1, 2], [0, 2]]
    assert (first.tolist(), last.tolist()) == ([True, False, False], [False, False, True])


def test_a_mask_can_be_anything_that_is_true_or_false() -> None:
    choices = Counting()
    acting = StatefulPolicy(choices)
    acting.act(STATES)
    acting.reset(np.array([0, 1, 1]))
    acting.act(STATES)
    acting.reset(np.zeros(3, np.bool_))
    acting.act(STATES)
    assert choices.asked == [[0, 1, 2], [1, 2]]


def test_a_reset_of_all_begins_as_a_new_policy_does() -> None:
    choices = Counting()
    acting = StatefulPolicy(choices, seed=5)
    for mask in (None, np.ones(3, np.bool_)):
        acting.reset(np.array([True, False, False]))
        acting.reset(mask)
        acting.act(STATES)
    acting.reset()
    acting.act(STATES[:2])  # of other environments, perhaps fewer
    assert choices.asked == [[0, 1, 2], [0, 1, 2], [0, 1]]
    assert choices.seeds[0] == choices.seeds[2] == derive_seed(5, 0)
    assert choices.seeds[1] == derive_seed(5, 1), "another episode draws other latents"


def test_it_acts_with_threads_of_its_own_and_leaves_the_users_alone() -> None:
    class Noting(Counting):
        def choose(self, states: np.ndarray, goals: np.ndarray | None, seed: int) -> np.ndarray:
            threads.append(torch.get_num_threads())
            return super().choose(states, goals, seed)

    threads: list[int] = []
    torch.set_num_threads(2)
    StatefulPolicy(Noting(), threads=3).act(STATES)
    StatefulPolicy(Noting()).act(STATES)
    assert threads == [3, 2]
    assert torch.get_num_threads() == 2
