"""LDCQ takes the candidate that the critic values most."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.config import ConfigError, CriticConfig, SamplingConfig
from ldcq.critic.critic import Critic
from ldcq.nn.model import Dimensions
from ldcq.policies.base import Execution
from ldcq.policies.ldcq import LdcqPolicy
from tests.ldcq.policies.standins import NoisePrior, decoder


def policy(prior: NoisePrior, candidates: int = 6) -> LdcqPolicy:
    torch.manual_seed(0)
    critic = Critic(Dimensions(state=3, latent=2), CriticConfig(hidden=(16, 8)))
    critic.requires_grad_(False)
    return LdcqPolicy(decoder(), prior, critic, candidates, SamplingConfig(), Execution(4))


def test_the_best_candidate_of_every_state_is_executed() -> None:
    prior = NoisePrior()
    acting = policy(prior)
    states = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    actions, plan = acting.act(states, None, None, None, seed=3)
    (draw,) = prior.draws
    drawn = prior.latents(draw)
    for state, own, chosen in zip(states, drawn, plan.latents, strict=True):
        values = [
            float(acting.critic.q_values(torch.tensor(state[None]), torch.tensor(one[None])).min())
            for one in own
        ]
        np.testing.assert_array_equal(chosen, own[int(np.argmax(values))])
    expected = acting.decoder.act(torch.tensor(states), torch.tensor(plan.latents))
    np.testing.assert_array_equal(actions, expected.numpy())
    assert (acting.candidates, acting.paths, acting.goal_dim) == (6, 6, 0)


def test_more_candidates_than_the_prior_gives_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"actor.candidates is 7, expected at most 6"):
        policy(NoisePrior(max_rows=6), candidates=7)
