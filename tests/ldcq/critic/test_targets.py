"""Targets against a plain loop over an episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.critic.critic import Critic
from ldcq.critic.targets import (
    GAUSS_WIDTH,
    argmax_min,
    bootstrapped,
    expectile_loss,
    hl_gauss,
    together,
)


@pytest.mark.parametrize("terminated", [True, False])
def test_targets_of_an_episode(critic: Critic, terminated: bool) -> None:
    """Every window of an episode that terminates, or ends by a time limit (and bootstraps)."""
    rng = np.random.default_rng(0)
    length, horizon, gamma, candidates = 9, 3, 0.9, 4
    rewards = rng.normal(size=length)
    states, latents = torch.randn(length + 1, 3), torch.randn(length + 1, candidates, 5)
    with torch.no_grad():
        values = critic.q_values(states, latents).numpy()  # [critic, state, candidate]
    expected, reward, discount, ends = [], [], [], []
    for start in range(length - horizon + 1):
        end = start + horizon
        total = sum(gamma**k * rewards[start + k] for k in range(horizon))
        over = terminated and end == length
        best = max(min(values[:, end, i]) for i in range(candidates))
        expected.append(total if over else total + gamma**horizon * best)
        reward.append(total)
        discount.append(0.0 if over else gamma**horizon)
        ends.append(end)
    with torch.no_grad():
        worth = critic.greatest(states[ends], latents[ends])
    targets = bootstrapped(torch.tensor(reward), torch.tensor(discount), worth)
    torch.testing.assert_close(
        targets.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-5
    )


def test_on_other_devices_every_candidate_is_looked_at(critic: Critic) -> None:
    """The screened maximum asks which candidates are left, which tensors without values refuse."""
    states, latents = torch.empty(4, 3, device="meta"), torch.empty(4, 9, 5, device="meta")
    assert critic.to("meta").greatest(states, latents).shape == (4,)


VALUES = np.random.default_rng(0).normal(size=(4, 6, 5))


def test_networks_together() -> None:
    values = torch.from_numpy(VALUES)
    np.testing.assert_array_equal(together(values, None), VALUES.min(0))
    expected = VALUES.mean(0) - 1.5 * VALUES.std(0, ddof=1)
    np.testing.assert_allclose(together(values, 1.5), expected)


def test_one_network_chooses_and_all_value() -> None:
    values = torch.from_numpy(VALUES)
    chosen = np.stack([VALUES[:, row, VALUES[0, row].argmax()] for row in range(6)], axis=1)
    np.testing.assert_array_equal(argmax_min(values, None), chosen.min(0))
    lower = chosen.mean(0) - 1.5 * chosen.std(0, ddof=1)
    np.testing.assert_allclose(argmax_min(values, 1.5), lower)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_the_loss_is_least_at_the_expectile(expectile: float) -> None:
    """Tau E[(x - V)+] = (1 - tau) E[(V - x)+] at the tau-expectile V of weighted x."""
    random = np.random.default_rng(0)
    samples, weights = random.exponential(size=4000), random.uniform(size=4000)
    grid = np.linspace(0, 4, 2001)
    losses = [
        float(
            expectile_loss(
                torch.from_numpy(samples - value)[:, None], expectile, torch.from_numpy(weights)
            )
        )
        for value in grid
    ]
    least = grid[np.argmin(losses)]
    above = expectile * (weights * np.maximum(samples - least, 0)).sum()
    below = (1 - expectile) * (weights * np.maximum(least - samples, 0)).sum()
    assert above == pytest.approx(below, rel=0.02)


def test_a_histogram_holds_the_gaussian_around_a_value() -> None:
    """Against samples of a Gaussian that stays between the bounds."""
    edges = torch.linspace(-1, 3, 9, dtype=torch.float64)
    for value in (-1.0, 0.3, 2.9):
        samples = np.random.default_rng(0).normal(value, GAUSS_WIDTH * 0.5, size=400_000)
        inside = samples[(samples >= -1) & (samples <= 3)]
        expected = np.histogram(inside, edges.numpy())[0] / len(inside)
        found = hl_gauss(torch.tensor([value], dtype=torch.float64), edges)[0]
        np.testing.assert_allclose(found, expected, atol=3e-3)
