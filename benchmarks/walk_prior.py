"""The random walk of supplement D as a test of samplers: actions from [-1, -0.8] and [0.8, 1], and
none between.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from common.data.random_walk import GAP, draw_actions
from ldcq.config import Config, SamplingConfig, override
from ldcq.data.latents import LatentTable
from ldcq.latent_prior import Draw
from ldcq.prior import Sampler
from ldcq.prior_learner import PriorLearner

BATCH = 256


def train_walk_prior(config: Config, updates: int, windows: int = 16384) -> Sampler:
    """Trains the configured prior on the walk, an action being its own latent (H = 1, Z = 1).

    Args:
        config: Gives the prior's network, schedule and T.
        updates: Gradient steps; some of one-cycle training in batches of 256.
        windows: Steps of the walk to learn from.
    """
    epochs = max(1, round(updates * BATCH / windows))
    changed = override(
        config,
        {
            "prior.batch_size": BATCH,
            "prior.epochs": epochs,
            "prior.learning_rate": 2e-3,
            "prior.schedule": "one_cycle",
        },
    )
    learner = PriorLearner(changed, _walk(windows, config.seed), torch.device("cpu"))
    for step in range(learner.total):
        learner.update(step)
    return learner.published.eval().requires_grad_(False).sampler()


def walk_coverage(
    sampler: Sampler, options: SamplingConfig, states: int = 64, per_state: int = 128
) -> tuple[float, float]:
    """How much of what is sampled no data could be, and how evenly both modes are met.

    Args:
        sampler: From `train_walk_prior`.
        options: How to sample.
        states: Positions, evenly from one end to the other.
        per_state: Samples of each.

    Returns:
        Share of samples shorter than `GAP`, the data's shortest step less a little, and share of
        steps to the right, 0.5 in the data.
    """
    positions = torch.linspace(-10, 10, states)[:, None].numpy()
    actions = sampler.sample(Draw(positions, per_state, options, seed=0)).latents
    return float((np.abs(actions) < GAP).mean()), float((actions > 0).mean())


def _walk(windows: int, seed: int) -> LatentTable:
    """Steps at random positions as a table of exact latents."""
    random = np.random.default_rng(seed)
    state = random.uniform(-10, 10, (windows, 1)).astype(np.float32)
    action = draw_actions(random, windows)
    nothing: NDArray[np.float32] = np.zeros(windows, dtype=np.float32)
    return LatentTable(
        state=state,
        latent_mean=action,
        latent_std=np.zeros_like(action),
        reward=nothing,
        discount=nothing,
        next_state=state + action,
        episode=np.arange(windows),
        step=np.zeros(windows, dtype=np.int64),
        validation=np.zeros(windows, dtype=bool),
    )
