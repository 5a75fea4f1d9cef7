"""BC acts by its network on the state it sees, at every step anew."""

from __future__ import annotations

import numpy as np
import torch

from ldcq.policies.base import Plan
from ldcq.policies.bc import BcPolicy
from tests.ldcq.policies.standins import decoder


def test_every_action_is_the_networks() -> None:
    network = decoder(latent=0)
    policy = BcPolicy(network)
    assert (policy.candidates, policy.paths, policy.goal_dim) == (None, 0, 0)
    plan: Plan | None = None
    for seed in range(3):
        states = np.random.default_rng(seed).normal(size=(6, 3)).astype(np.float32)
        actions, plan = policy.act(states, None, plan, None, 0)
        expected = network.act(torch.tensor(states), torch.zeros(6, 0))
        np.testing.assert_array_equal(actions, expected.numpy())


def test_actions_are_drawn_where_that_is_wanted() -> None:
    states = np.zeros((6, 3), np.float32)
    policy = BcPolicy(decoder(latent=0), sample_actions=True)
    first, again, other = (policy.act(states, None, None, None, seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
