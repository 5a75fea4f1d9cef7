"""What every solver promises, and DDPM against diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray

from services.prior.schedule import Schedule, alpha_bars, betas
from services.prior.solvers import SOLVERS, Step, trailing_timesteps

GOLDEN = {"ddpm": (0.4063, 0.5206)}
"""Mean and mean absolute value after `_full_loop`; a change here changes results."""


def _take(
    step: Step,
    latent: NDArray[np.float64],
    clean: NDArray[np.float64],
    before: NDArray[np.float64],
    noise: NDArray[np.float64],
) -> NDArray[np.float64]:
    return step.latent * latent + step.clean * clean + step.previous * before + step.noise * noise


def _full_loop(solver: str) -> NDArray[np.float64]:
    """20 of 100 cosine steps with a made-up denoiser."""
    random = np.random.default_rng(0)
    latent = random.standard_normal((64, 4))
    before = np.zeros_like(latent)
    for step in SOLVERS[solver](alpha_bars("cosine", 100), 20):
        clean = np.tanh(latent + 0.01 * step.time)
        latent = _take(step, latent, clean, before, random.standard_normal(latent.shape))
        before = clean
    return latent


@pytest.mark.parametrize("name", SOLVERS)
def test_full_loop_gives_the_known_numbers(name: str) -> None:
    latent = _full_loop(name)
    assert (latent.mean(), np.abs(latent).mean()) == pytest.approx(GOLDEN[name], abs=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 100])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("name", SOLVERS)
def test_plan_goes_from_noise_to_a_clean_latent(name: str, schedule: Schedule, steps: int) -> None:
    plan = SOLVERS[name](alpha_bars(schedule, 100), steps)
    times = [step.time for step in plan]
    assert len(plan) == steps
    assert times[0] == 100
    assert times == sorted(set(times), reverse=True)
    assert plan[-1].noise == 0
    # A perfect denoiser is followed to the end.
    assert plan[-1].clean + plan[-1].previous == pytest.approx(1)
    assert plan[-1].latent == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_more_steps_than_trained_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="steps is 11, expected 1 to 10"):
        SOLVERS[name](alpha_bars("linear", 10), 11)


@pytest.mark.parametrize(("training", "steps"), [(100, 20), (200, 3), (7, 7), (1000, 999), (5, 1)])
def test_times_are_spaced_as_diffusers_trailing(training: int, steps: int) -> None:
    scheduler = DDPMScheduler(num_train_timesteps=training, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert trailing_timesteps(training, steps) == tuple((scheduler.timesteps + 1).tolist())


@pytest.mark.parametrize("steps", [100, 50, 20, 7])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddpm_agrees_with_diffusers_step_by_step(schedule: Schedule, steps: int) -> None:
    """Algorithm 1 with the variance beta_t, for all T steps and for the respaced chain."""
    alpha_bar = alpha_bars(schedule, 100)
    scheduler = DDPMScheduler(
        num_train_timesteps=100,
        trained_betas=betas(alpha_bar),
        prediction_type="sample",
        variance_type="fixed_large",
        clip_sample=False,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    random = torch.Generator().manual_seed(0)
    latent = torch.randn(16, 3, generator=random, dtype=torch.float64)
    plan = SOLVERS["ddpm"](alpha_bar, steps)
    for step, time in zip(plan, scheduler.timesteps, strict=True):
        clean = torch.tanh(latent)
        noise_state = random.get_state()
        noise = torch.randn(latent.shape, generator=random, dtype=torch.float64)
        ours = step.latent * latent + step.clean * clean + step.noise * noise
        random.set_state(noise_state)
        theirs = scheduler.step(clean, time, latent, generator=random).prev_sample
        if step is plan[-1]:
            # A respaced chain ends above t = 1, where diffusers would still add noise to z_0;
            # Algorithm 1 adds none to what is returned.
            theirs = clean
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
        latent = theirs.double()


def test_ddpm_samples_a_known_mixture() -> None:
    """With the exact E[z_0 | z_t] of two modes, samples have their place, width and share."""
    width, alpha_bar = 0.1, alpha_bars("cosine", 100)
    place = np.sqrt(1 - width**2)
    for steps, tolerance in ((100, 0.02), (20, 0.02)):
        random = np.random.default_rng(1)
        latent = random.standard_normal(20_000)
        for step in SOLVERS["ddpm"](alpha_bar, steps):
            signal, variance = np.sqrt(alpha_bar[step.time]), 1 - alpha_bar[step.time]
            total = alpha_bar[step.time] * width**2 + variance
            upper = 1 / (1 + np.exp(-2 * signal * place * latent / total))
            clean = sum(
                share * (mode + signal * width**2 / total * (latent - signal * mode))
                for share, mode in ((upper, place), (1 - upper, -place))
            )
            latent = _take(step, latent, clean, latent, random.standard_normal(latent.shape))
        distance = latent - place * np.sign(latent)
        assert distance.std() == pytest.approx(width, abs=tolerance)
        assert np.mean(latent > 0) == pytest.approx(0.5, abs=0.02)
        assert np.mean(np.abs(distance) > 4 * width) < 0.01
