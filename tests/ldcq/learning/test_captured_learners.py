"""Every learner's update can be captured; without a GPU it is made directly, and learns as well."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ldcq.bc import BcLearner
from ldcq.config import Config, override
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import NoCandidates, OnlineCandidates
from ldcq.critic.replay import PrioritisedReplay
from ldcq.critic.transitions import Transitions
from ldcq.data.latents import LatentTable
from ldcq.data.windows import Windows, make_windows
from ldcq.learning.captured import WARM_UP, CapturedUpdate
from ldcq.prior_learner import PriorLearner
from ldcq.vae.learner import VaeLearner
from ldcq.world_model import WorldModelLearner
from tests.ldcq.vae.synthetic import HORIZON, make_episodes

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STATE, LATENT = 4, 3
SMALL: dict[str, Any] = {
    "horizon": HORIZON,
    "device": DEVICE.type,
    "vae.latent_dim": LATENT,
    "vae.hidden": 16,
    "vae.decoder_hidden": 16,
    "vae.batch_size": 16,
    "prior.batch_size": 16,
    "prior.options": {"diffusion": {"steps": 10, "blocks": [16, 16]}, "gaussian": {"hidden": [16]}},
    "critic.hidden": (16, 16),
    "critic.batch_size": 16,
    "critic.candidates": 4,
    "world_model.hidden": (16, 16),
    "world_model.batch_size": 16,
    "bc.hidden": 16,
    "bc.batch_size": 16,
    "data.goal_indices": (0, 1),
    "evaluation.methods": {},
}


def _windows() -> Windows:
    return make_windows(make_episodes(), HORIZON, 0.25, 0)


def _table() -> LatentTable:
    rng, rows = np.random.default_rng(0), 120

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return LatentTable(
        state=normal(rows, STATE),
        latent_mean=normal(rows, LATENT),
        latent_std=np.abs(normal(rows, LATENT)) + 0.1,
        reward=normal(rows),
        discount=np.full(rows, 0.9, np.float32),
        next_state=normal(rows, STATE),
        episode=np.arange(rows) // 30,
        step=np.arange(rows) % 30,
        validation=np.arange(rows) % 30 == 0,
    )


def _vae(config: Config) -> VaeLearner:
    return VaeLearner(config, _windows(), DEVICE)


def _bc(config: Config) -> BcLearner:
    return BcLearner(config, make_windows(make_episodes(), 1, 0.25, 0), DEVICE)


def _prior(config: Config) -> PriorLearner:
    return PriorLearner(config, _table(), DEVICE)


def _world_model(config: Config) -> WorldModelLearner:
    table = _table()
    return WorldModelLearner(config, table, Transitions.of(table, np.arange(len(table)), DEVICE))


def _critic(config: Config) -> LDCQ:
    table = _table()
    transitions = Transitions.of(table, table.training, DEVICE)
    replay = PrioritisedReplay(config.critic.replay, len(transitions))
    if not config.critic.needs_candidates:
        return LDCQ(config, transitions, replay, NoCandidates(config, replay))
    prior = _prior(config).published.eval().sampler()
    return LDCQ(config, transitions, replay, OnlineCandidates(config, prior, transitions, replay))


LEARNERS: dict[str, tuple[Callable[[Config], Any], dict[str, Any]]] = {
    "VAE, gru": (_vae, {"vae.encoder": "gru"}),
    "VAE, mlp, some steps": (_vae, {"vae.encoder": "mlp", "vae.decoded_steps": 2}),
    "VAE, independent decoder": (_vae, {"vae.decoder": "independent"}),
    "prior": (_prior, {}),
    "prior, one cycle": (_prior, {"prior.schedule": "one_cycle"}),
    "prior with goals": (_prior, {"prior.goal_conditioned": True}),
    "Gaussian prior": (_prior, {"prior.implementation": "gaussian"}),
    "world model with goals": (_world_model, {"world_model.rewards": True}),
    "BC": (_bc, {}),
    "critic": (_critic, {"critic.sampling.extra_steps": 1}),
    "critic, expectile of the prior": (_critic, {"critic.target": "expectile_prior"}),
    "critic, dueling": (_critic, {"critic.target": "expectile_return", "critic.dueling": True}),
    "critic, bins": (
        _critic,
        {"critic.target": "expectile_return", "critic.bounds": (-9.0, 9.0), "critic.bins": 8},
    ),
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", LEARNERS)
def test_on_a_gpu_its_updates_become_a_graph(name: str) -> None:
    learner = _updated(name)
    update = learner._descent._update
    assert isinstance(update, CapturedUpdate)
    assert update._captured is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", LEARNERS)
def test_on_a_cpu_its_updates_are_made_directly(name: str) -> None:
    learner = _updated(name)
    assert not isinstance(learner._descent._update, CapturedUpdate)


def _updated(name: str) -> Any:
    make, changes = LEARNERS[name]
    torch.manual_seed(0)
    learner = make(override(Config(), {**SMALL, **changes}))
    for step in range(WARM_UP + 3):
        found = learner.update(step)
        assert all(math.isfinite(float(value)) for value in found.values())
    return learner
