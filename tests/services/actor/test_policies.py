"""A policy acts over a prior in this process as it does over one behind gRPC."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.models import model_of
from common.rpc.clients import PriorClient
from ldcq.config import Config, SamplingConfig
from ldcq.critic.critic import Critic
from ldcq.latent_prior import LatentPrior
from ldcq.policies.base import Execution, LatentPlanPolicy, StatefulPolicy
from ldcq.policies.costs import euclidean
from ldcq.policies.ldcp import LdcpPolicy
from ldcq.policies.ldcq import LdcqPolicy
from ldcq.policies.ldgc import LdgcPolicy
from ldcq.registry import find_prior
from ldcq.vae.model import Vae
from ldcq.world_model import WorldModel
from tests.services.actor.conftest import Pipeline

Make = Callable[[Vae, LatentPrior, Critic], LatentPlanPolicy]
SAMPLING = SamplingConfig(steps=4, guidance=1.3, temperature=0.7)
"""No binary fractions, which single precision on the wire would round; none for a Gaussian prior,
which is asked for none of it."""
EXECUTION = Execution(3, sample_actions=True)


def _ldcq(decoder: Vae, prior: LatentPrior, critic: Critic) -> LatentPlanPolicy:
    return LdcqPolicy(decoder, prior, critic, 6, SAMPLING, EXECUTION)


def _ldgc(decoder: Vae, prior: LatentPrior, critic: Critic) -> LatentPlanPolicy:
    del critic
    return LdgcPolicy(decoder, prior, SAMPLING, EXECUTION)


class Moving(WorldModel):
    """Where a latent leads: as far as it is long."""

    def predict(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        return states + latents


def _ldcp(decoder: Vae, prior: LatentPrior, critic: Critic) -> LatentPlanPolicy:
    del critic
    world_model = Moving(decoder.dimensions, Config().world_model)
    cost = euclidean([0, 1])
    return LdcpPolicy(decoder, prior, world_model, cost, 3, 2, SAMPLING, EXECUTION, 2)


def acted(policy: LatentPlanPolicy) -> np.ndarray:
    """Actions of some steps, with resets between them."""
    acting, random = StatefulPolicy(policy, seed=11), np.random.default_rng(0)
    actions = []
    for step in range(7):
        states = random.normal(0, 0.5, (5, 4)).astype(np.float32)
        if step == 2:
            acting.reset(np.array([False, True, True, False, False]))
        actions.append(acting.act(states, states[:, :2] + 1))
    return np.array(actions)


@pytest.mark.parametrize("variant", ["main", "bcq_h"])
@pytest.mark.parametrize("make", [_ldcq, _ldgc, _ldcp])
def test_the_actions_are_the_same_for_the_same_seed(
    pipeline: Pipeline, make: Make, variant: str
) -> None:
    store = pipeline.store
    artifact = store.load("prior", store.current("prior", variant) or "")
    decoder = model_of(store.load("vae", store.current("vae") or ""), Vae)
    critic = model_of(store.load("critic", store.current("critic", variant) or ""), Critic)
    here = model_of(artifact, find_prior(artifact.meta.implementation)).sampler()
    with PriorClient(pipeline.targets[variant]) as client:
        served = client.pinned(artifact.version)
        over_grpc = acted(make(decoder, served, critic))
    np.testing.assert_array_equal(acted(make(decoder, here, critic)), over_grpc)
