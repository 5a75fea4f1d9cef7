"""What every solver promises, and each against diffusers step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from numpy.typing import NDArray

from ldcq.diffusion.schedule import Schedule, alpha_bars
from ldcq.diffusion.solvers import SOLVERS, Step, trailing_timesteps
from tests.ldcq.diffusion.betas import betas

GOLDEN = {"ddpm": (0.4063, 0.5206), "ddim": (0.3764, 0.6036), "dpmpp_2m": (0.3690, 0.5964)}
"""Mean and mean absolute value after `_full_loop`; a change here changes results."""


def _shared(alpha_bar: NDArray[np.float64]) -> dict[str, object]:
    return {
        "num_train_timesteps": len(alpha_bar) - 1,
        "trained_betas": betas(alpha_bar),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }


def _diffusers_multistep(alpha_bar: NDArray[np.float64], order: int) -> Any:
    return DPMSolverMultistepScheduler(
        **_shared(alpha_bar),
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        solver_order=order,
        lower_order_final=True,
        final_sigmas_type="zero",
    )


DIFFUSERS: Mapping[str, Callable[[NDArray[np.float64]], Any]] = {
    "ddpm": lambda alpha_bar: DDPMScheduler(
        **_shared(alpha_bar), variance_type="fixed_large", clip_sample=False
    ),
    # DPM-Solver++ of first order is DDIM, and diffusers' takes any number of steps.
    "ddim": lambda alpha_bar: _diffusers_multistep(alpha_bar, order=1),
    "dpmpp_2m": lambda alpha_bar: _diffusers_multistep(alpha_bar, order=2),
}


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


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50, 99, 100])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("name", SOLVERS)
def test_agrees_with_diffusers_step_by_step(name: str, schedule: Schedule, steps: int) -> None:
    """From the same latent at every step, so that a difference shows where it arises."""
    alpha_bar = alpha_bars(schedule, 100)
    scheduler = DIFFUSERS[name](alpha_bar)
    scheduler.set_timesteps(steps)
    random = torch.Generator().manual_seed(0)
    latent = torch.randn(16, 3, generator=random, dtype=torch.float64)
    before = torch.full_like(latent, torch.nan)
    plan = SOLVERS[name](alpha_bar, steps)
    for step, time in zip(plan, scheduler.timesteps, strict=True):
        clean = torch.tanh(latent + 0.01 * step.time)
        state = random.get_state()
        noise = torch.randn(latent.shape, generator=random, dtype=torch.float64)
        ours = step.latent * latent + step.clean * clean + step.noise * noise
        if step.previous:
            ours += step.previous * before
        random.set_state(state)
        theirs = scheduler.step(clean, time, latent, generator=random).prev_sample.double()
        if step is plan[-1] and name == "ddpm":
            # A respaced chain ends above t = 1, where diffusers would still add noise to z_0;
            # Algorithm 1 adds none to what is returned.
            theirs = clean
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
        latent, before = theirs, clean


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 20, 50, 100])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_ddim_agrees_with_diffusers_ddim(schedule: Schedule, steps: int) -> None:
    """Where the steps divide T: elsewhere diffusers' DDIM does not step to the next time it asks
    the model at.
    """
    alpha_bar = alpha_bars(schedule, 100)
    scheduler = DDIMScheduler(**_shared(alpha_bar), clip_sample=False)
    scheduler.set_timesteps(steps)
    latent = torch.randn(16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for step, time in zip(SOLVERS["ddim"](alpha_bar, steps), scheduler.timesteps, strict=True):
        clean = torch.tanh(latent + 0.01 * step.time)
        theirs = scheduler.step(clean, time, latent, eta=0.0).prev_sample
        assert step.noise == step.previous == 0
        torch.testing.assert_close(
            step.latent * latent + step.clean * clean, theirs, atol=2e-5, rtol=1e-4
        )
        latent = theirs


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_deterministic_solvers_approach_the_same_end(solver: str) -> None:
    """More steps follow the same path more closely, the second-order solver much more so."""
    alpha_bar = alpha_bars("cosine", 1000)
    start = np.random.default_rng(0).standard_normal(2000)

    def end(name: str, steps: int) -> NDArray[np.float64]:
        latent, before = start.copy(), start
        for step in SOLVERS[name](alpha_bar, steps):
            clean = _mixture_mean(latent, alpha_bar[step.time], width=0.5)
            latent, before = _take(step, latent, clean, before, np.zeros_like(latent)), clean
        return latent

    exact = end("ddim", 1000)
    errors = [np.abs(end(solver, steps) - exact).mean() for steps in (5, 10, 20, 40)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < (0.02 if solver == "ddim" else 0.005)


@pytest.mark.parametrize(
    ("name", "steps", "spread", "between"),
    [
        ("ddpm", 100, 0.02, 0.01),
        ("ddpm", 20, 0.02, 0.01),
        ("ddim", 100, 0.02, 0.01),
        ("ddim", 20, 0.04, 0.03),
        ("dpmpp_2m", 100, 0.02, 0.01),
        ("dpmpp_2m", 20, 0.035, 0.01),
    ],
)
def test_samples_a_known_mixture(name: str, steps: int, spread: float, between: float) -> None:
    """With the exact E[z_0 | z_t] of two modes, samples have their place, width and share; few
    deterministic steps make the modes narrower, never leak between them.
    """
    width, alpha_bar = 0.1, alpha_bars("cosine", 100)
    place = np.sqrt(1 - width**2)
    random = np.random.default_rng(1)
    latent = random.standard_normal(20_000)
    before = latent
    for step in SOLVERS[name](alpha_bar, steps):
        clean = _mixture_mean(latent, alpha_bar[step.time], width)
        latent = _take(step, latent, clean, before, random.standard_normal(latent.shape))
        before = clean
    distance = latent - place * np.sign(latent)
    assert distance.std() == pytest.approx(width, abs=spread)
    assert np.mean(latent > 0) == pytest.approx(0.5, abs=0.02)
    assert np.mean(np.abs(distance) > 4 * width) < between


def _mixture_mean(
    latent: NDArray[np.float64], alpha_bar: float, width: float
) -> NDArray[np.float64]:
    """E[z_0 | z_t] of two equal Gaussians of this width; mean 0 and variance 1 together."""
    place, signal = np.sqrt(1 - width**2), np.sqrt(alpha_bar)
    total = alpha_bar * width**2 + 1 - alpha_bar
    upper = 1 / (1 + np.exp(-2 * signal * place * latent / total))
    halves = (
        share * (mode + signal * width**2 / total * (latent - signal * mode))
        for share, mode in ((upper, place), (1 - upper, -place))
    )
    return np.asarray(sum(halves))
