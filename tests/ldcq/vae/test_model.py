"""The assembled VAE and what travels in its artifact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.models import model_of, parts_of
from common.store import Store
from ldcq.config import Config, override
from ldcq.data.windows import Windows
from ldcq.nn.model import Dimensions
from ldcq.nn.normaliser import Normaliser
from ldcq.vae.low_level import policy_dimensions
from ldcq.vae.model import Vae


def through(store: Store, vae: Vae) -> Vae:
    """As it comes back from its artifact."""
    return model_of(store.load("vae", store.publish(*parts_of(vae), "")), Vae)


def build(config: Config, dimensions: Dimensions) -> Vae:
    torch.manual_seed(0)
    vae = Vae(dimensions, config.vae)
    ramp = torch.linspace(1, 2, dimensions.state)
    vae.state_normaliser = Normaliser(ramp, ramp + 1)
    return vae


@pytest.mark.parametrize("encoder", ["gru", "mlp"])
def test_a_published_vae_is_rebuilt_from_its_artifact_alone(
    tmp_path: Path, config: Config, windows: Windows, encoder: str
) -> None:
    config = override(config, {"vae.encoder": encoder})
    vae = build(config, policy_dimensions(windows, 4))
    rebuilt = through(Store(tmp_path), vae)
    assert rebuilt.dimensions == vae.dimensions
    rows = np.arange(6)
    states = torch.from_numpy(windows.states(rows))
    actions = torch.from_numpy(windows.actions(rows))
    with torch.no_grad():
        for one, other in zip(
            rebuilt.encode(states, actions), vae.encode(states, actions), strict=True
        ):
            assert torch.equal(one, other)
    assert not any(parameter.requires_grad for parameter in rebuilt.parameters())

    latents = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.decoder.act(vae.state_normaliser(states[:, 0]), latents, None)
    assert torch.equal(rebuilt.act(states[:, 0], latents), expected)
    size, spaces = rebuilt.dimensions, windows.episodes.spaces
    assert (size.state, size.action, size.latent) == (2, spaces.action_dim, 4)
    assert (size.horizon, size.discrete_actions) == (config.horizon, spaces.discrete_actions)


def test_unbounded_actions_survive_the_artifact(tmp_path: Path, config: Config) -> None:
    vae = build(config, Dimensions(state=3, action=2, latent=4, horizon=5))
    vae.decoder.bound([-np.inf, -0.5], [np.inf, 0.25])
    with torch.no_grad():
        for name, value in vae.decoder.named_parameters():
            if name.endswith("mean.bias"):
                value.fill_(100.0)
    actions = through(Store(tmp_path), vae).act(torch.zeros(1, 3), torch.zeros(1, 4))
    assert actions[0, 0] > 90
    assert actions[0, 1] == 0.25


def test_the_encoder_sees_where_actions_are_in_their_range(config: Config) -> None:
    vae = build(config, Dimensions(state=2, action=2, latent=4, horizon=5))
    states, actions = torch.randn(3, 5, 2), 2 * torch.rand(3, 5, 2) - 1
    vae.decoder.bound([-1, -1], [1, 1])
    expected = vae.encode(states, actions)
    vae.decoder.bound([-100, 0], [100, 8])
    found = vae.encode(states, torch.tensor([100, 4]) * actions + torch.tensor([0, 4]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_encoder_sees_standardised_states(config: Config) -> None:
    vae = build(config, Dimensions(state=2, action=2, latent=4, horizon=5))
    states, actions = torch.randn(3, 5, 2), torch.rand(3, 5, 2)
    raw = states * vae.state_normaliser.std + vae.state_normaliser.mean
    for one, other in zip(
        vae.encode(raw, actions), vae.encode_standardised(states, actions), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_discrete_actions_enter_the_encoder_as_one_hot(config: Config) -> None:
    size = Dimensions(state=2, action=1, latent=4, horizon=5, discrete_actions=3)
    vae = build(config, size)
    states = torch.zeros(3, 5, 2)
    actions = torch.arange(3).view(3, 1, 1).expand(3, 5, 1)
    seen: list[torch.Tensor] = []
    vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    vae.encode(states, actions)
    assert torch.equal(seen[0][:, :, 2:], torch.eye(3).view(3, 1, 3).expand(3, 5, 3))


def test_statistics_of_the_data_standardise_the_training_states(
    config: Config, windows: Windows
) -> None:
    vae = Vae(policy_dimensions(windows, 4), config.vae)
    vae.fit_to(windows)
    standardised = vae.state_normaliser(torch.from_numpy(windows.first_states(windows.training)))
    assert standardised.std(dim=0).min() > 0.5
    assert standardised.std(dim=0).max() < 2
