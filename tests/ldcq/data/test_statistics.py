"""One rule for what data are divided by, in all models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.config import Config, override
from ldcq.critic.transitions import Transitions, normalisers
from ldcq.data.latents import LatentTable
from ldcq.data.statistics import scale, state_statistics
from ldcq.data.windows import make_windows
from ldcq.prior_learner import training_statistics
from ldcq.world_model import WorldModelLearner
from tests.common.data.samples import numbered_episodes


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [(0, 0, 1), (5, 2, 2), (1e4, 1e-3, 1), (3, 1e-5, 1e-5), (-2e4, 1e-2, 1), (0, 1e-7, 1)],
)
def test_a_deviation_that_is_rounding_counts_as_one(
    mean: float, deviation: float, expected: float
) -> None:
    assert scale(np.array([mean]), np.array([deviation])).tolist() == [expected]


def test_all_models_divide_by_the_same_and_by_one_where_nothing_changes() -> None:
    windows = make_windows(numbered_episodes([8, 5, 9, 7, 6]), 4, 0.0, 1)
    windows.episodes.observations[:, 2] = 0.3
    rows = np.arange(len(windows))
    latents = np.random.default_rng(0).normal(size=(len(windows), 2)).astype(np.float32)
    latents[:, 1] = 0.3
    table = LatentTable(
        state=windows.first_states(rows),
        latent_mean=latents,
        latent_std=np.zeros_like(latents),
        reward=windows.rewards(rows)[:, 0],
        discount=np.full(len(windows), 0.9, np.float32),
        next_state=windows.next_states(rows),
        episode=windows.episode,
        step=windows.step,
        validation=windows.validation,
    )
    transitions = Transitions.of(table, rows, torch.device("cpu"))
    critic_states, critic_latents = normalisers(transitions)
    config = override(Config(), {"device": "cpu", "world_model.hidden": [4]})
    world_model = WorldModelLearner(config, table, transitions).model
    prior = training_statistics(table)
    assert state_statistics(windows).state_std[2] == prior.state_std[2] == 1
    assert prior.latent_std[1] == 1
    for states in (critic_states, world_model.state_normaliser):
        np.testing.assert_allclose(states.std.numpy(), prior.state_std, rtol=1e-5)
    for own in (critic_latents, world_model.latent_normaliser):
        np.testing.assert_allclose(own.std.numpy(), prior.latent_std, rtol=1e-5)
    # What the world model puts out is told as it is: there its error counts for nothing.
    assert float(world_model.change_normaliser.std[2]) == pytest.approx(1e-6)
