"""The critic against plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from common.models import model_of, parts_of
from common.store import Artifact
from ldcq.config import ConfigError, CriticConfig
from ldcq.critic.critic import ROWS_AT_ONCE, Critic
from ldcq.critic.q_network import QNetwork
from ldcq.nn.model import Dimensions

S, Z, N, CANDIDATES = 3, 5, 7, 4


def plain(critic: Critic, state: Tensor, latent: Tensor) -> list[Tensor]:
    """Both networks on one pair, [s; z] concatenated."""
    s = (state - critic.state_normaliser.mean) / critic.state_normaliser.std
    z = (latent - critic.latent_normaliser.mean) / critic.latent_normaliser.std
    phases = [s[i] * 2.0**k for i in critic.fourier.indices for k in range(critic.fourier.octaves)]
    s = torch.stack([*s, *(phase.sin() for phase in phases), *(phase.cos() for phase in phases)])
    values = []
    for network in critic.networks:
        assert isinstance(network, QNetwork)
        x = network.first(torch.cat([s, z]))
        for norm, layer in zip(network.norms, network.layers, strict=True):
            centred = x - x.mean()
            x = centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias
            x = layer(functional.gelu(x))
        values.append(x.squeeze())
    return values


def test_q_values_are_those_of_each_network_on_concatenated_inputs(critic: Critic) -> None:
    states, latents = torch.randn(N, S), torch.randn(N, Z)
    expected = torch.stack(
        [torch.stack(plain(critic, s, z)) for s, z in zip(states, latents, strict=True)], dim=1
    )
    torch.testing.assert_close(critic.q_values(states, latents), expected)
    assert (expected[0] - expected[1]).abs().min() > 1e-4, "the two networks must differ"


def test_score_is_the_smaller_value_of_each_candidate_in_units_of_return(
    critic: Critic, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, latents = torch.randn(N, S), torch.randn(N, CANDIDATES, Z)
    critic.requires_grad_(False)
    expected = torch.tensor(
        [
            [
                min(float(v) for v in plain(critic, states[i], latents[i, k])) / 0.25
                for k in range(4)
            ]
            for i in range(N)
        ]
    )
    whole = critic.score(states, latents)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setitem(ROWS_AT_ONCE, "cpu", 2 * CANDIDATES)
    torch.testing.assert_close(critic.score(states, latents), whole)


def test_gradients_reach_every_parameter(critic: Critic) -> None:
    critic.q_values(torch.randn(N, S), torch.randn(N, Z)).square().sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in critic.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_an_artifact_is_enough_to_score(critic: Critic) -> None:
    states, latents = torch.randn(N, S), torch.randn(N, CANDIDATES, Z)
    rebuilt = model_of(Artifact("v", *parts_of(critic)), Critic)
    torch.testing.assert_close(
        rebuilt.score(states, latents), critic.score(states, latents), rtol=0, atol=0
    )


def test_features_of_entries_that_states_do_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"critic.fourier_indices is \[9\], expected .* 0 to 2"):
        Critic(
            Dimensions(state=S, latent=Z),
            CriticConfig(hidden=(8,), fourier_indices=(9,), fourier_octaves=2),
        )
