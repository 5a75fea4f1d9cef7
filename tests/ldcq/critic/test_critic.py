"""The critic against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module, functional

from common.models import model_of, parts_of
from common.store import Artifact
from ldcq.config import CriticConfig
from ldcq.critic.critic import ROWS_AT_ONCE, Critic
from ldcq.critic.q_network import QNetwork
from ldcq.nn.model import Dimensions

S, Z, N, CANDIDATES = 3, 5, 7, 4


def plain(critic: Critic, state: Tensor, latent: Tensor) -> list[Tensor]:
    """Both networks on one pair, [s; sines; z] concatenated."""
    s = (state - critic.state_normaliser.mean) / critic.state_normaliser.std
    z = (latent - critic.latent_normaliser.mean) / critic.latent_normaliser.std
    values = [output(network, s, z) for network in critic.networks]
    if critic.value is None:
        return values
    return [output(critic.value, s, z[:0]) + critic.spread[0] * value for value in values]


def output(network: Module, s: Tensor, z: Tensor) -> Tensor:
    """What a network says of one pair."""
    assert isinstance(network, QNetwork)
    sines = []
    if network.frequencies is not None:
        for column, phase in zip(network.frequencies.T, network.phases, strict=True):
            sines.append(torch.sin((s * column).sum() + phase))
    x = network.first(torch.cat([s, *(sine.view(1) for sine in sines), z]))
    for norm, layer in zip(network.norms, network.layers, strict=True):
        centred = x - x.mean()
        x = centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias
        x = layer(functional.gelu(x))
    return torch.as_tensor(x.squeeze())


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


def test_a_latent_has_a_value_for_every_number_of_executed_steps() -> None:
    torch.manual_seed(0)
    config = CriticConfig(hidden=(8,), target="expectile_return", dueling=True, reward_scale=0.5)
    critic = Critic(Dimensions(state=S, latent=Z, lengths=3), config)
    critic.spread.copy_(torch.tensor([1.0, 2.0, 3.0]))
    states, latents = torch.randn(N, S), torch.randn(N, CANDIDATES, Z)
    with torch.no_grad():
        values = critic.v_values(states)[:, None, None]
        expected = torch.stack(
            [
                (values + critic.spread * network(states, latents)) / 0.5
                for network in critic.networks
            ]
        ).amin(0)
        torch.testing.assert_close(critic.score_by_length(states, latents), expected)
        torch.testing.assert_close(critic.score(states, latents), expected[..., -1])
        torch.testing.assert_close(
            critic.greatest(states, latents), 0.5 * expected[..., -1].amax(1)
        )


def test_the_spread_follows_the_advantages() -> None:
    critic = Critic(Dimensions(state=S, latent=Z, lengths=2), CriticConfig(dueling=True))
    random = np.random.default_rng(0)
    expected = np.zeros(2)
    for step in range(250):
        advantages = random.normal(scale=(0.1, 3.0), size=(5, 2)).astype(np.float32)
        share = max(1 / (step + 1), 0.01)
        expected += share * (np.square(advantages).mean(0) - expected)
        critic.follow_spread(torch.from_numpy(advantages), torch.tensor(share))
    np.testing.assert_allclose(critic.spread, np.sqrt(expected), rtol=1e-4)
