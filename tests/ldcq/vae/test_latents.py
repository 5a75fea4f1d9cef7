"""Transitions in latent space against a plain loop over the episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.config import Config
from ldcq.data.episodes import DataError
from ldcq.data.latents import LatentTable
from ldcq.data.windows import Windows
from ldcq.vae.latents import bootstrap_discounts, discounted_rewards, latent_table
from ldcq.vae.low_level import policy_dimensions
from ldcq.vae.model import Vae


@pytest.fixture
def vae(config: Config, windows: Windows) -> Vae:
    torch.manual_seed(0)
    vae = Vae(policy_dimensions(windows, config.vae.latent_dim), config.vae)
    vae.fit_to(windows)
    return vae.eval()


def test_every_row_against_a_loop_over_the_episodes(vae: Vae, windows: Windows) -> None:
    table = latent_table(vae, windows, slice(None), 0.9)
    episodes, horizon, row = windows.episodes, windows.horizon, 0
    action_start = observation_start = 0
    seen_discounts = set()
    for episode, length in enumerate(episodes.lengths):
        states = episodes.observations[observation_start : observation_start + length + 1]
        actions = episodes.actions[action_start : action_start + length]
        rewards = episodes.rewards[action_start : action_start + length]
        ended = episodes.terminations[action_start : action_start + length]
        for step in range(length - horizon + 1):
            reward, discount = 0.0, 0.9**horizon
            for k in range(horizon):
                reward += 0.9**k * float(rewards[step + k])
                discount = 0.0 if ended[step + k] else discount
            with torch.no_grad():
                posterior = vae.encode(
                    torch.tensor(states[step : step + horizon]).unsqueeze(0),
                    torch.tensor(actions[step : step + horizon]).unsqueeze(0),
                )
            assert (table.episode[row], table.step[row]) == (episode, step)
            assert table.reward[row] == pytest.approx(reward, abs=1e-5)
            assert table.discount[row] == pytest.approx(discount)
            np.testing.assert_array_equal(table.state[row], states[step])
            np.testing.assert_array_equal(table.next_state[row], states[step + horizon])
            np.testing.assert_allclose(table.latent_mean[row], posterior.mean[0], atol=1e-5)
            np.testing.assert_allclose(table.latent_std[row], posterior.std[0], atol=1e-5)
            seen_discounts.add(discount)
            row += 1
        action_start += length
        observation_start += length + 1
    assert row == len(table) == len(windows)
    assert seen_discounts == {0.0, 0.9**horizon}
    np.testing.assert_array_equal(table.validation, windows.validation)


def test_discounted_rewards_and_discounts_by_hand() -> None:
    rewards = np.array([[1, 2, 4], [0, 0, 8]], np.float32)
    np.testing.assert_allclose(discounted_rewards(rewards, 0.5), [1 + 1 + 1, 2])
    ended = np.array([True, False])
    np.testing.assert_allclose(bootstrap_discounts(ended, 3, 0.5), [0, 0.125])


def test_training_and_held_out_windows_are_told_apart(vae: Vae, windows: Windows) -> None:
    table = latent_table(vae, windows, slice(None), 0.9)
    np.testing.assert_array_equal(table.training, windows.training)
    np.testing.assert_array_equal(table.held_out, windows.held_out)
    none = LatentTable(**{**vars(table), "validation": np.ones(len(table), np.bool_)})
    with pytest.raises(DataError, match=r"got \d+ windows, none of them for training; expected"):
        none.training  # noqa: B018
