"""The maximum of Eq. 8 against looking at every candidate."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from ldcq.config import CriticConfig
from ldcq.critic import screening
from ldcq.critic.critic import Critic
from ldcq.critic.q_network import QNetwork
from ldcq.nn.model import Dimensions

S, Z = 3, 5


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
        states, latents = torch.randn(200, S), torch.randn(200, candidates, Z)
        pairs = critic.q_values(states, latents)
        expected = pairs.amin(0).amax(1)
        torch.testing.assert_close(critic.greatest(states, latents), expected)
        monkeypatch.setattr(screening, "ROWS_AT_ONCE", 64)
        torch.testing.assert_close(critic.greatest(states, latents), expected)
    if (
        candidates == 30
        and agreement == 0
        and critic.config == CriticConfig(hidden=(16, 12, 8), reward_scale=0.25)
    ):  # with sines, networks that differ hardly disagree on the best
        at_argmax = pairs.amin(0).gather(1, pairs[0].argmax(1, keepdim=True))[:, 0]
        assert (expected > at_argmax + 1e-5).any()
        assert (expected < pairs.amax(2).amin(0) - 1e-5).any()


def test_choosing_in_half_precision_loses_next_to_nothing() -> None:
    """Where the CPU has no such products this is the float32 path, which is exact."""
    torch.manual_seed(0)
    critic = Critic(Dimensions(state=S, latent=Z), CriticConfig(hidden=(256, 256, 256, 32)))
    with torch.no_grad():
        states, latents = torch.randn(64, S), torch.randn(64, 100, Z)
        smaller = critic.lower_q(states, latents)[..., 0]
        found = critic.greatest(states, latents)
    lost = smaller.amax(1) - found
    spread = smaller.std(1).mean()
    assert lost.min() > -1e-5, "never above the best: the value itself is in float32"
    assert lost.max() < 0.05 * spread
    assert lost.mean() < 0.002 * spread


def test_a_diverged_network_is_not_hidden(critic: Critic) -> None:
    with torch.no_grad():
        cast(QNetwork, critic.networks[1]).first.bias[0] = torch.nan
        assert critic.greatest(torch.randn(4, S), torch.randn(4, 9, Z)).isnan().all()
