"""Targets against a plain loop over an episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.critic.critic import Critic
from ldcq.critic.targets import max_min_target


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
        targets = max_min_target(
            critic, torch.tensor(reward), torch.tensor(discount), states[ends], latents[ends]
        )
    torch.testing.assert_close(
        targets.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-5
    )


def test_on_other_devices_every_candidate_is_looked_at(critic: Critic) -> None:
    """The screened maximum asks which candidates are left, which tensors without values refuse."""
    shapes = ((4,), (4,), (4, 3), (4, 9, 5))
    without_values = [torch.empty(shape, device="meta") for shape in shapes]
    assert max_min_target(critic.to("meta"), *without_values).shape == (4,)
