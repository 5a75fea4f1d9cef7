"""The deterministic solvers in the real sampler, against diffusers around the plain network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from ldcq.config import SamplingConfig
from ldcq.diffusion.prior import DiffusionPrior
from tests.draws import latents
from tests.ldcq.diffusion.betas import betas
from tests.services.prior.world import LATENT, STATE, small_config, some_prior, some_statistics


@pytest.mark.parametrize("steps", [1, 2, 5, 9, 20])
@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("dpmpp_2m", 2)])
@torch.no_grad()
def test_samples_what_diffusers_does(solver: str, order: int, steps: int) -> None:
    """At temperature 0 sampling starts from 0, so that no noise has to agree."""
    prior = some_prior(small_config())
    assert isinstance(prior, DiffusionPrior)
    states = torch.randn(7, STATE, generator=torch.Generator().manual_seed(1))
    options = SamplingConfig(solver=solver, steps=steps, temperature=0.0)
    ours = latents(prior.sampler(), states, 1, options, 0)[:, 0]

    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=20,
        trained_betas=betas(prior.alpha_bar),
        prediction_type="sample",
        timestep_spacing="trailing",
        solver_order=order,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(steps)
    standard, latent = prior.state_normaliser(states), torch.zeros(7, LATENT)
    for time in scheduler.timesteps:
        clean = prior.denoiser(latent, standard, torch.full((7,), int(time) + 1))
        latent = scheduler.step(clean, time, latent).prev_sample
    statistics = some_statistics()
    theirs = latent.numpy() * statistics.latent_std + statistics.latent_mean
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4, rtol=1e-4)
    assert np.abs(theirs).max() > 0.1
