"""The Gaussian prior against torch.distributions."""

from __future__ import annotations

import math

import pytest
import torch

from common.models import model_of, parts_of
from common.store import Artifact
from ldcq.config import SamplingConfig, override
from ldcq.gaussian import GaussianPrior
from ldcq.latent_prior import OptionError
from ldcq.prior import Batch
from ldcq.prior_learner import PriorLearner
from tests.draws import latents as sampled
from tests.services.prior.world import (
    LATENT,
    STATE,
    small_config,
    some_prior,
    two_modes,
)


def _prior() -> GaussianPrior:
    prior = some_prior(small_config("gaussian"))
    assert isinstance(prior, GaussianPrior)
    return prior


def _states(count: int) -> torch.Tensor:
    return torch.randn(count, STATE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_loss_is_the_negative_log_likelihood() -> None:
    prior, states = _prior(), _states(50)
    latents = torch.randn(50, LATENT)
    batch = Batch(states, latents, torch.zeros_like(latents))
    mean, std = prior.condition(prior.inputs(states, None))
    standardised = prior.latent_normaliser(latents)
    density = torch.distributions.Normal(mean, std).log_prob(standardised)  # type: ignore[no-untyped-call]
    expected = -density.mean()
    torch.testing.assert_close(prior.loss(batch, torch.Generator()), expected)


@torch.no_grad()
def test_samples_have_the_networks_mean_and_width() -> None:
    prior, states = _prior(), _states(2)
    drawn = sampled(prior.sampler(), states, 20_000, SamplingConfig(), 0)
    mean, std = prior.condition(prior.inputs(states, None))
    scale = prior.latent_normaliser.std
    torch.testing.assert_close(
        drawn.mean(1) / scale, prior.latent_normaliser.inverse(mean) / scale, atol=0.05, rtol=0
    )
    torch.testing.assert_close(drawn.std(1) / scale, std, atol=0.03, rtol=0.03)


def test_artifact_samples_as_the_model_did() -> None:
    prior = _prior()
    again = model_of(Artifact("p", *parts_of(prior)), GaussianPrior)
    drawn = sampled(prior.sampler(), _states(3), 5, SamplingConfig(), 9)
    assert torch.equal(drawn, sampled(again.sampler(), _states(3), 5, SamplingConfig(), 9))


def test_takes_a_temperature_and_refuses_what_is_about_denoising() -> None:
    sampler = _prior().sampler()
    defaults = sampler.describe().defaults
    assert defaults == SamplingConfig(temperature=1.0)
    assert sampler.resolve(SamplingConfig()) == sampler.resolve(defaults) == defaults
    assert sampler.resolve(SamplingConfig(temperature=0.5)).temperature == 0.5
    for field, given in {"solver": "ddpm", "steps": 5, "guidance": 1.0, "extra_steps": 0}.items():
        with pytest.raises(OptionError, match=f"{field} is {given!r}, expected nothing"):
            sampler.resolve(SamplingConfig.model_validate({field: given}))
    for given in (-0.5, math.nan, math.inf):
        with pytest.raises(OptionError, match="expected a finite number, at least 0"):
            sampler.resolve(SamplingConfig.model_construct(temperature=given))


def test_the_temperature_scales_the_noise_and_nothing_else() -> None:
    prior, states = _prior(), _states(3)

    def drawn(temperature: float | None) -> torch.Tensor:
        options = SamplingConfig(temperature=temperature)
        return sampled(prior.sampler(), states, 5, options, 9)

    with torch.no_grad():
        mean = prior.latent_normaliser.inverse(prior.condition(prior.inputs(states, None))[0])
    plain, cold = drawn(None), drawn(0.0)
    assert torch.equal(drawn(1.0), plain)
    torch.testing.assert_close(cold, mean[:, None].expand_as(cold))
    torch.testing.assert_close(drawn(0.5) - cold, (plain - cold) / 2, atol=1e-6, rtol=1e-4)


def test_its_own_temperature_is_what_a_draw_without_one_gets() -> None:
    config = small_config("gaussian")
    own = some_prior(override(config, {"prior.sampling.temperature": 0.5})).sampler()
    asked, states = SamplingConfig(temperature=0.5), _states(2)
    plain = some_prior(config).sampler()
    assert torch.equal(sampled(own, states, 4), sampled(plain, states, 4, asked))
    assert own.describe().defaults == asked


def test_learns_the_state_but_puts_its_mass_between_the_modes() -> None:
    config = small_config("gaussian", epochs=6)
    learner = PriorLearner(config, two_modes(6000), torch.device("cpu"))
    for step in range(learner.total):
        learner.update(step)
    state = torch.tensor([[2.0, 4.0, 4.0], [6.0, 4.0, 4.0]])
    drawn = sampled(learner.published.sampler(), state, 1000, SamplingConfig(), 0)
    offset = drawn[..., 0] - 2 * state[:, :1]
    assert float(offset.mean(dim=1).abs().max()) < 1.0
    assert float((offset.abs() < 1.5).float().mean()) > 0.2
