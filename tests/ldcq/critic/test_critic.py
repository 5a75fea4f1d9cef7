"""The critic against plain loops."""

from __future__ import annotations

from typing import cast

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
from ldcq.nn.normaliser import Normaliser

S, Z, N, CANDIDATES = 3, 5, 7, 4


SIZE = Dimensions(state=S, latent=Z)


@pytest.fixture(params=[{}, {"fourier_indices": (2, 0), "fourier_octaves": 3}], ids=["", "fourier"])
def critic(request: pytest.FixtureRequest) -> Critic:
    torch.manual_seed(0)
    built = Critic(SIZE, CriticConfig(hidden=(16, 12, 8), reward_scale=0.25, **request.param))
    built.state_normaliser = Normaliser(
        torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.5, 3.0])
    )
    built.latent_normaliser = Normaliser(torch.randn(Z), torch.rand(Z) + 0.5)
    with torch.no_grad():  # LayerNorms of fresh networks are all alike: make them count.
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


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


@pytest.mark.parametrize("agreement", [1.0, 0.9, 0.0, -1.0])
@pytest.mark.parametrize("candidates", [1, 2, 30])
def test_the_best_value_is_found_however_much_the_networks_disagree(
    critic: Critic, agreement: float, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """max_z min_j, which is neither min_j max_z nor the min at one network's argmax."""
    with torch.no_grad():
        for one, other in zip(*(net.parameters() for net in critic.networks), strict=True):
            other.copy_(abs(agreement) * one + (1 - abs(agreement)) * other)
        if agreement < 0:  # What is best for one is worst for the other.
            last = cast(QNetwork, critic.networks[1]).layers[-1]
            for parameter in last.parameters():
                parameter.neg_()
        states, latents = torch.randn(50, S), torch.randn(50, candidates, Z)
        pairs = critic.q_values(states, latents)
        expected = pairs.amin(0).amax(1)
        torch.testing.assert_close(critic.best_value(states, latents), expected)
        monkeypatch.setitem(ROWS_AT_ONCE, "cpu", 64)
        torch.testing.assert_close(critic.best_value(states, latents), expected)
    if candidates == 30 and agreement == 0:
        at_argmax = pairs.amin(0).gather(1, pairs[0].argmax(1, keepdim=True))[:, 0]
        assert (expected > at_argmax + 1e-3).any()
        assert (expected < pairs.amax(2).amin(0) - 1e-3).any()


def test_choosing_in_half_precision_loses_next_to_nothing() -> None:
    """Where the CPU has no such products this is the float32 path, which is exact."""
    torch.manual_seed(0)
    critic = Critic(SIZE, CriticConfig(hidden=(256, 256, 256, 32)))
    with torch.no_grad():
        states, latents = torch.randn(64, S), torch.randn(64, 100, Z)
        smaller = critic.smaller_q(states, latents)
        found = critic.best_value(states, latents)
    lost = smaller.amax(1) - found
    spread = smaller.std(1).mean()
    assert lost.min() > -1e-5, "never above the best: the value itself is in float32"
    assert lost.max() < 0.05 * spread
    assert lost.mean() < 0.002 * spread


def test_a_diverged_network_is_not_hidden(critic: Critic) -> None:
    with torch.no_grad():
        cast(QNetwork, critic.networks[1]).first.bias[0] = torch.nan
        assert critic.best_value(torch.randn(4, S), torch.randn(4, 9, Z)).isnan().all()


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
        Critic(SIZE, CriticConfig(hidden=(8,), fourier_indices=(9,), fourier_octaves=2))
