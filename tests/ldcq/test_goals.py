"""Training goals: states of the same episode at or after a window's end, drawn anew every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ldcq.config import Config
from ldcq.data.latents import LatentTable
from ldcq.goals import Hindsight
from ldcq.prior import Batch
from ldcq.prior_learner import PriorLearner
from tests.services.prior.world import goal_config, two_modes

CPU = torch.device("cpu")
HORIZON = 4
LENGTHS = np.array([1, 40, 7, 130, 2, 60, 160])
"""Windows of each episode."""


def _table() -> LatentTable:
    """Entry 0 of a state is its step, entry 2 its episode; latents name their window."""
    episode = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    step = np.concatenate([np.arange(length) for length in LENGTHS])
    rows = len(step)
    state = np.stack([step, np.zeros(rows), episode], axis=1).astype(np.float32)
    following = state + np.array([HORIZON, 0, 0], np.float32)
    window = np.arange(rows, dtype=np.float32)
    return replace(
        two_modes(rows),
        state=state,
        next_state=following,
        episode=episode,
        step=step,
        latent_mean=np.stack([window, window], axis=1),
        validation=episode == 3,
    )


TABLE = _table()


def _config(steps: int | None = None, seed: int = 0) -> Config:
    return goal_config(hindsight_steps=steps, batch_size=90).model_copy(update={"seed": seed})


def _steps_ahead(batch: Batch) -> np.ndarray:
    """Steps from each window's end to its goal, after a check that both are of one episode."""
    assert batch.goals is not None
    window = batch.latent_mean[:, 0].numpy().astype(int)
    goals = batch.goals.numpy()  # entries 2 and 0: episode, step
    np.testing.assert_array_equal(goals[:, 0], TABLE.episode[window])
    ahead: np.ndarray = goals[:, 1] - (TABLE.step[window] + HORIZON)
    last = LENGTHS[TABLE.episode[window]] - 1
    assert (ahead >= 0).all()
    assert (ahead <= last - TABLE.step[window]).all()
    return ahead


@pytest.mark.parametrize("most", [None, 5, 1])
def test_goals_are_spread_evenly_over_what_is_ahead(most: int | None) -> None:
    hindsight = Hindsight(_config(most), TABLE.episode)
    first = int(LENGTHS[:3].sum())  # of the episode of 130 windows
    rows = np.full(20_000, first + 100)
    ahead = hindsight.goal_rows(rows, 0) - rows
    expected = np.arange(30 if most is None else most + 1)
    found, counts = np.unique(ahead, return_counts=True)
    np.testing.assert_array_equal(found, expected)
    assert counts.max() / counts.min() < 1.3
    at_the_end = np.full(10, first + 129)
    np.testing.assert_array_equal(hindsight.goal_rows(at_the_end, 0), at_the_end)


@pytest.mark.parametrize("most", [None, 6])
def test_goals_of_every_window_are_of_its_episode_and_anew_each_time(most: int | None) -> None:
    config = _config(most)
    learner = PriorLearner(config, TABLE, CPU)
    rows = np.arange(len(TABLE))
    first, other = (learner._batch(rows, step) for step in range(2))
    ahead = _steps_ahead(first)
    assert ahead.max() > 100 if most is None else ahead.max() == most
    assert (ahead != _steps_ahead(other)).mean() > 0.5
    again = PriorLearner(config, TABLE, CPU)._batch(rows, 0)
    np.testing.assert_array_equal(again.goals, first.goals)


def test_the_learner_draws_goals_by_seed_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Batch] = []

    def run(seed: int) -> list[Batch]:
        learner = PriorLearner(_config(seed=seed), TABLE, CPU)
        loss = learner._prior.loss

        def look(batch: Batch, generator: torch.Generator) -> torch.Tensor:
            seen.append(batch)
            return loss(batch, generator)

        monkeypatch.setattr(learner._prior, "loss", look)
        seen.clear()
        for step in range(4):
            learner.update(step)
        _steps_ahead(learner._validation)
        return list(seen)

    first, again, other = run(0), run(0), run(1)
    for one, two in zip(first, again, strict=True):
        _steps_ahead(one)
        assert torch.equal(one.latent_mean, two.latent_mean)
        np.testing.assert_array_equal(one.goals, two.goals)
    assert not np.array_equal(first[0].goals, other[0].goals)  # type: ignore[arg-type]
