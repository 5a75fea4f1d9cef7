"""Targets against a plain loop over an episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.critic.critic import clipped_double_q
from ldcq.critic.targets import bellman_target


@pytest.mark.parametrize("terminated", [True, False])
def test_targets_of_an_episode(terminated: bool) -> None:
    """Every window of an episode that terminates, or ends by a time limit (and bootstraps)."""
    rng = np.random.default_rng(0)
    length, horizon, gamma, candidates = 9, 3, 0.9, 4
    rewards = rng.normal(size=length)
    target_values = rng.normal(size=(2, length + 1, candidates))  # [critic, state, candidate]
    expected, reward, discount, values = [], [], [], []
    for start in range(length - horizon + 1):
        end = start + horizon
        total = sum(gamma**k * rewards[start + k] for k in range(horizon))
        over = terminated and end == length
        best = max(min(target_values[:, end, i]) for i in range(candidates))
        expected.append(total if over else total + gamma**horizon * best)
        reward.append(total)
        discount.append(0.0 if over else gamma**horizon)
        values.append(target_values[:, end])
    targets = bellman_target(
        torch.tensor(reward),
        torch.tensor(discount),
        clipped_double_q(torch.tensor(np.stack(values, axis=1))).amax(1),
    )
    torch.testing.assert_close(targets, torch.tensor(expected, dtype=torch.float64))
