"""Eq. 4 against torch.distributions and by hand."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as torch_kl

from ldcq.nn.distributions import Gaussian
from ldcq.vae.losses import decoded_steps, kl_divergence, negative_elbo, reconstruction


def gaussian(rows: int, seed: int) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(
        torch.randn(rows, 3, generator=generator), torch.rand(rows, 3, generator=generator) + 0.1
    )


def test_kl_against_torch_distributions() -> None:
    q, p = gaussian(5, 0), gaussian(5, 1)
    expected = torch_kl(
        Independent(Normal(q.mean, q.std), 1),
        Independent(Normal(p.mean, p.std), 1),
    )
    torch.testing.assert_close(kl_divergence(q, p), expected)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros(5))


def test_negative_elbo_is_equation_4_per_step() -> None:
    log_likelihood = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 4.0]])
    kl = torch.tensor([2.0, 6.0])
    by_hand = -(((1 + 2 + 3) - 0.5 * 2) + ((-1 + 0 + 4) - 0.5 * 6)) / 2 / 3
    assert negative_elbo(log_likelihood, kl, 0.5, 3).item() == pytest.approx(by_hand)


def test_all_steps_are_decoded_when_none_or_the_horizon_is_asked_for() -> None:
    generator = torch.Generator()
    assert decoded_steps(4, 6, None, generator) is None
    assert decoded_steps(4, 6, 6, generator) is None


def test_decoded_steps_differ_within_a_window_and_repeat_with_the_generator() -> None:
    steps = decoded_steps(200, 6, 4, torch.Generator().manual_seed(0))
    again = decoded_steps(200, 6, 4, torch.Generator().manual_seed(0))
    assert steps is not None
    assert again is not None
    assert torch.equal(steps, again)
    assert steps.shape == (200, 4)
    assert all(len(set(row.tolist())) == 4 for row in steps)
    assert steps.min() == 0
    assert steps.max() == 5


def test_reconstruction_from_some_steps_is_an_unbiased_estimate_of_all() -> None:
    horizon, rows = 6, 40_000
    log_likelihood = torch.tensor([-3.0, 0.5, 2.0, -10.0, 1.0, 7.0])
    steps = decoded_steps(rows, horizon, 2, torch.Generator().manual_seed(0))
    assert steps is not None
    estimates = reconstruction(log_likelihood[steps], horizon)
    exact = reconstruction(log_likelihood.unsqueeze(0), horizon)
    assert exact.item() == pytest.approx(log_likelihood.sum().item())
    error = estimates.std().item() / rows**0.5
    assert abs(estimates.mean().item() - exact.item()) < 4 * error
    assert estimates.std() > 1
