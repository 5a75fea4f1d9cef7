"""The world model: what it predicts, in which units, and that it comes back from an artifact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.distributions import Normal

from common.models import model_of, parts_of
from common.store import Artifact
from ldcq.config import WorldModelConfig
from ldcq.critic.transitions import Outcome
from ldcq.nn.model import Dimensions
from ldcq.nn.normaliser import Normaliser
from ldcq.support import StateSupport
from ldcq.world_model import WorldModel


def _model() -> WorldModel:
    torch.manual_seed(0)
    config = WorldModelConfig(hidden=(8,), min_std=0.1, reference_states=50)
    model = WorldModel(Dimensions(state=2, latent=3), config)
    model.state_normaliser = Normaliser(torch.tensor([5.0, -5.0]), torch.tensor([2.0, 3.0]))
    model.latent_normaliser = Normaliser(torch.zeros(3), torch.full((3,), 4.0))
    model.change_normaliser = Normaliser(torch.tensor([1.0, 0.0]), torch.tensor([10.0, 0.5]))
    model.support = StateSupport.of(torch.randn(50, 2), torch.randn(50, 2))
    return model


def _ends(states: torch.Tensor) -> Outcome:
    """After H steps; without rewards."""
    return Outcome(states.unsqueeze(-2), torch.zeros(0), torch.zeros(0))


def test_the_density_is_that_of_the_standardised_change() -> None:
    model = _model()
    states, latents, after = torch.randn(3, 7, 2), torch.randn(3, 7, 3), torch.randn(3, 7, 2)
    mean, std = model(states, latents)
    change = (after - states - torch.tensor([1.0, 0.0])) / torch.tensor([10.0, 0.5])
    expected = Normal(mean, std).log_prob(change)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.loss(states, latents, _ends(after)), -expected.mean())
    assert (std > 0.1).all()


def test_the_prediction_is_where_the_density_is_highest() -> None:
    model = _model()
    states, latents = torch.randn(7, 2), torch.randn(7, 3)
    best = model.predict(states, latents)
    highest = model.loss(states, latents, _ends(best))
    for step in (torch.tensor([0.3, 0.0]), torch.tensor([0.0, -0.02])):
        assert model.loss(states, latents, _ends(best + step)) > highest


def _foreseeing() -> WorldModel:
    torch.manual_seed(0)
    config = WorldModelConfig(hidden=(8,), rewards=True, reference_states=50)
    model = WorldModel(Dimensions(state=2, latent=3, lengths=2), config)
    model.change_normaliser = Normaliser(torch.arange(4.0), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    model.gain_normaliser = Normaliser(torch.full((4,), 0.9), torch.tensor([10.0, 20, 0.05, 5.0]))
    return model


def test_what_latents_come_to_is_told_by_length() -> None:
    model = _foreseeing()
    states, latents = torch.randn(5, 7, 2), torch.randn(5, 7, 3)
    ends, (rewards, discounts) = model.ends(states, latents), model.earnings(states, latents)
    assert ends.shape == (5, 7, 2, 2)
    torch.testing.assert_close(ends[..., 1, :], model.predict(states, latents))
    changes = model(states, latents).mean * torch.arange(1.0, 5) + torch.arange(4.0)
    torch.testing.assert_close(ends.flatten(2), states.repeat(1, 1, 2) + changes)
    assert model.gains is not None
    raw = model.gains(torch.cat([states, latents], dim=-1)) * model.gain_normaliser.std + 0.9
    torch.testing.assert_close(rewards, raw[..., :2])
    torch.testing.assert_close(discounts, raw[..., 2:].clamp(0, 1))
    assert (raw[..., 3] > 1).any(), "a discount is none"
    sought = Outcome(ends, rewards + torch.tensor([10.0, 20.0]), raw[..., 2:])
    seen = Outcome(ends, rewards, raw[..., 2:])
    worse = model.loss(states, latents, sought) - model.loss(states, latents, seen)
    torch.testing.assert_close(worse, torch.tensor(0.25), msg="half of 1, in half of the entries")


@pytest.mark.parametrize("make", [_model, _foreseeing])
def test_an_artifact_holds_all_of_it(make: Callable[[], WorldModel]) -> None:
    model = make()
    rebuilt = model_of(Artifact("w", *parts_of(model)), WorldModel)
    states, latents = torch.randn(7, 2), torch.randn(7, 3)
    torch.testing.assert_close(rebuilt.predict(states, latents), model.predict(states, latents))
    assert torch.equal(rebuilt.support.distance(states), model.support.distance(states))
    if model.config.rewards:
        pairs = zip(rebuilt.earnings(states, latents), model.earnings(states, latents), strict=True)
        assert all(torch.equal(found, expected) for found, expected in pairs)
    assert not any(parameter.requires_grad for parameter in rebuilt.parameters())
