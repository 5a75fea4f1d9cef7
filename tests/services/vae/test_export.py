"""The latent table against a plain loop over the episodes."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from common.store import Meta, Store, open_latents
from ldcq.config import Config
from ldcq.data.windows import Windows
from ldcq.learning.learner import Stopped
from ldcq.vae.low_level import policy_dimensions
from ldcq.vae.model import Vae
from services.vae import export
from services.vae.export import bootstrap_discounts, discounted_rewards, write_latents


@pytest.fixture
def vae(config: Config, windows: Windows) -> Vae:
    torch.manual_seed(0)
    made = Vae(policy_dimensions(windows, config.vae.latent_dim), config.vae)
    made.fit_to(windows)
    return made


PROGRESS: list[tuple[int, int]] = []
META = Meta(kind="latents", parents={"vae": "a", "dataset": "b"})


def write(store: Store, vae: Vae, windows: Windows, stop: threading.Event | None = None) -> str:
    return write_latents(
        store,
        META,
        vae,
        windows,
        0.9,
        variant="main",
        on_progress=lambda *counts: PROGRESS.append(counts),
        stop=stop or threading.Event(),
    )


def test_every_row_against_a_loop_over_the_episodes(
    tmp_path: Path, vae: Vae, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ROWS", 7)
    store = Store(tmp_path)
    table = open_latents(store, write(store, vae, windows), vae_version="a")
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
    assert row == len(table.reward) == len(windows)
    assert seen_discounts == {0.0, 0.9**horizon}
    np.testing.assert_array_equal(table.validation, windows.validation)
    assert PROGRESS[-1] == (row, row)


def test_discounted_rewards_and_discounts_by_hand() -> None:
    rewards = np.array([[1, 2, 4], [0, 0, 8]], np.float32)
    np.testing.assert_allclose(discounted_rewards(rewards, 0.5), [1 + 1 + 1, 2])
    ended = np.array([True, False])
    np.testing.assert_allclose(bootstrap_discounts(ended, 3, 0.5), [0, 0.125])


def test_a_stop_publishes_nothing_and_leaves_the_table_free_to_be_written(
    tmp_path: Path, vae: Vae, windows: Windows
) -> None:
    store, stop = Store(tmp_path), threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        write(store, vae, windows, stop)
    assert store.current("latents") is None
    assert write(store, vae, windows) == store.current("latents")
