"""A decoder of a few weights and a prior of a few lines, for policies that are looked into."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import torch

from ldcq.config import SamplingConfig, VaeConfig
from ldcq.latent_prior import Description, Draw, Samples
from ldcq.nn.model import Dimensions
from ldcq.vae.model import Vae


def decoder(state: int = 3, action: int = 1, latent: int = 2, horizon: int = 9) -> Vae:
    """Random weights, the same every time, for actions in [-1, 1]."""
    dimensions = Dimensions(state=state, action=action, latent=latent, horizon=horizon)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = Vae(dimensions, VaeConfig(encoder="mlp", hidden=4, decoder_hidden=4, min_std=0.1))
    vae.decoder.bound([-1] * action, [1] * action)
    return vae.eval().requires_grad_(False)


class NoisePrior:
    """Latents are noise of the draw's seed; remembers what it was asked for.

    Args:
        goal_dim: G; 0 for a prior without goals.
        max_rows: Most latents of one draw.
    """

    def __init__(self, goal_dim: int = 0, max_rows: int = 1000) -> None:
        self.goal_dim, self.max_rows = goal_dim, max_rows
        self.draws: list[Draw] = []

    def describe(self) -> Description:
        return Description(
            state_dim=3,
            latent_dim=2,
            goal_dim=self.goal_dim,
            training_steps=0,
            solvers=(),
            defaults=SamplingConfig(),
            max_rows=self.max_rows,
        )

    def latents(self, draw: Draw) -> np.ndarray:
        random = np.random.default_rng(draw.seed)
        return random.standard_normal((len(draw.states), draw.candidates, 2)).astype(np.float32)

    def sample(self, draw: Draw) -> Samples:
        assert draw.rows <= self.max_rows
        self.draws.append(draw)
        return Samples(self.latents(draw))

    def sample_async(self, draw: Draw) -> Future[Samples]:
        future: Future[Samples] = Future()
        future.set_result(self.sample(draw))
        return future
