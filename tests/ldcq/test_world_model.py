"""The world model: what it predicts, in which units, and that it comes back from an artifact."""

from __future__ import annotations

import torch
from torch.distributions import Normal

from common.models import model_of, parts_of
from common.store import Artifact
from ldcq.config import WorldModelConfig
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


def test_the_density_is_that_of_the_standardised_change() -> None:
    model = _model()
    states, latents, after = torch.randn(3, 7, 2), torch.randn(3, 7, 3), torch.randn(3, 7, 2)
    mean, std = model(states, latents)
    change = (after - states - torch.tensor([1.0, 0.0])) / torch.tensor([10.0, 0.5])
    expected = Normal(mean, std).log_prob(change)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.log_density(states, latents, after), expected)
    assert (std > 0.1).all()


def test_the_prediction_is_where_the_density_is_highest() -> None:
    model = _model()
    states, latents = torch.randn(7, 2), torch.randn(7, 3)
    best = model.predict(states, latents)
    highest = model.log_density(states, latents, best)
    for step in (torch.tensor([0.3, 0.0]), torch.tensor([0.0, -0.02])):
        assert (model.log_density(states, latents, best + step) <= highest).all()


def test_the_distance_is_that_of_the_predicted_state_in_deviations() -> None:
    model = _model()
    states, latents = torch.randn(4, 7, 2), torch.randn(4, 7, 3)
    ends = (model.predict(states, latents) - torch.tensor([5.0, -5.0])) / torch.tensor([2.0, 3.0])
    found = model.distance(states, latents)
    assert found.shape == (4, 7)
    torch.testing.assert_close(found, model.support.distance(ends))


def test_an_artifact_holds_all_of_it() -> None:
    model = _model()
    rebuilt = model_of(Artifact("w", *parts_of(model)), WorldModel)
    states, latents = torch.randn(7, 2), torch.randn(7, 3)
    torch.testing.assert_close(rebuilt.predict(states, latents), model.predict(states, latents))
    assert torch.equal(rebuilt.distance(states, latents), model.distance(states, latents))
    assert not any(parameter.requires_grad for parameter in rebuilt.parameters())
