"""LDGC executes one latent of a prior, whose goals it pursues where that has some."""

from __future__ import annotations

import numpy as np

from ldcq.config import SamplingConfig
from ldcq.policies.base import Execution
from ldcq.policies.ldgc import LdgcPolicy
from tests.ldcq.policies.standins import NoisePrior, decoder

STATES = np.zeros((3, 3), np.float32)
GOALS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_one_latent_for_state_and_goal_is_executed_as_it_comes() -> None:
    prior = NoisePrior(goal_dim=2)
    policy = LdgcPolicy(decoder(), prior, SamplingConfig(), Execution(4))
    assert (policy.goal_dim, policy.candidates, policy.paths) == (2, 1, 1)
    _, plan = policy.act(STATES, GOALS, None, None, seed=0)
    (draw,) = prior.draws
    assert draw.goals is not None
    np.testing.assert_array_equal(draw.goals, GOALS)
    np.testing.assert_array_equal(plan.latents, prior.latents(draw)[:, 0])


def test_over_a_prior_without_goals_it_pursues_none() -> None:
    prior = NoisePrior()
    policy = LdgcPolicy(decoder(), prior, SamplingConfig(), Execution(4))
    assert policy.goal_dim == 0
    policy.act(STATES, GOALS, None, None, seed=0)
    assert prior.draws[0].goals is None
