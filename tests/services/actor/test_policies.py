"""Shorter plans near the goal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldcq.config import SamplingConfig, VaeConfig
from ldcq.nn.model import Dimensions
from ldcq.policies.base import LatentPlanPolicy, NearGoal, PolicySettings
from ldcq.vae.model import Vae
from services.actor.models import Models

DIMENSIONS = Dimensions(state=3, action=1, latent=2, horizon=9)


class Still(LatentPlanPolicy):
    """Always the same latent; remembers which goals it was given."""

    def choose(self, states: np.ndarray, goals: np.ndarray | None, seed: int) -> np.ndarray:
        del seed
        self.given = goals
        return np.zeros((len(states), 2), np.float32)


def policy(near: NearGoal | None, **models: Any) -> Still:
    executed = Vae(DIMENSIONS, VaeConfig(encoder="mlp", hidden=4, decoder_hidden=4, min_std=0.1))
    executed.decoder.bound([-1], [1])
    settings = PolicySettings(5, 8, SamplingConfig(), sample_actions=False, near_goal=near)
    return Still("m", Models(executed, None, "v", "p", "p", **models), settings)


def test_plans_made_near_the_goal_are_shorter() -> None:
    near = policy(NearGoal((2, 0), distance=1.0, execute_steps=3))
    assert near.goal_dim == 2, "such a policy asks for goals"
    # The goal is (x_2, x_0) = (10, 20): distances 0, 1.3 and, were entries swapped, 0.
    states = np.array([[20, 0, 10], [19.5, 0, 8.8], [10, 0, 20]], np.float32)
    goals = np.tile(np.array([10, 20], np.float32), (3, 1))
    _, plan = near.act(states, goals, None, None, 0)
    assert plan.steps_left.tolist() == [2, 7, 7]
    assert near.given is None, "the prior has no goals: it is not given any"
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
    near = policy(NearGoal((0, 1), distance=1.0, execute_steps=3), goal_dim=2)
    goals = np.full((2, 2), 7, np.float32)
    near.act(np.zeros((2, 3), np.float32), goals, None, None, 0)
    assert near.given is not None
    np.testing.assert_array_equal(near.given, goals)
