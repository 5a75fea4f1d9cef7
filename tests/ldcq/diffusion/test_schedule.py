"""Schedules that reach noise at every T."""

from __future__ import annotations

import numpy as np
import pytest

from ldcq.diffusion.schedule import (
    Schedule,
    alpha_bars,
    min_snr_weights,
    signal_to_noise,
)
from tests.ldcq.diffusion.betas import betas

SCHEDULES: tuple[Schedule, ...] = ("linear", "cosine")


@pytest.mark.parametrize("steps", [2, 5, 20, 100, 200, 500, 1000])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ends_in_noise_at_every_number_of_steps(schedule: Schedule, steps: int) -> None:
    alpha_bar = alpha_bars(schedule, steps)
    assert alpha_bar.shape == (steps + 1,)
    assert alpha_bar[0] == 1
    assert np.all(np.diff(alpha_bar) < 0)
    assert 0 < np.sqrt(alpha_bar[-1]) < 0.02


def test_linear_at_1000_steps_is_the_schedule_of_ddpm() -> None:
    textbook = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    ours = alpha_bars("linear", 1000)[1:]
    assert np.abs(np.sqrt(ours) - np.sqrt(textbook)).max() < 2e-3


def test_fewer_linear_steps_are_the_same_curve() -> None:
    np.testing.assert_allclose(alpha_bars("linear", 100), alpha_bars("linear", 1000)[::10])


def test_cosine_is_the_formula_up_to_the_cap() -> None:
    time = np.arange(101) / 100
    formula = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
    ours = alpha_bars("cosine", 100)
    np.testing.assert_allclose(ours[:-1], (formula / formula[0])[:-1])
    assert betas(ours)[-1] == pytest.approx(0.9995)
    assert betas(ours).max() < 1


def test_alpha_bar_is_the_product_of_the_alphas() -> None:
    alpha_bar = alpha_bars("linear", 50)
    np.testing.assert_allclose(np.cumprod(1 - betas(alpha_bar)), alpha_bar[1:])


def test_min_snr_weights_are_capped_signal_to_noise() -> None:
    alpha_bar = alpha_bars("linear", 100)
    weights = min_snr_weights(alpha_bar, 5.0)
    ratio = alpha_bar[1:] / (1 - alpha_bar[1:])
    np.testing.assert_allclose(signal_to_noise(alpha_bar), ratio)
    assert weights[0] == 5.0
    assert ratio[0] > 5.0
    np.testing.assert_allclose(weights[ratio < 5], ratio[ratio < 5])


def test_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="steps is 1, expected at least 2"):
        alpha_bars("linear", 1)
