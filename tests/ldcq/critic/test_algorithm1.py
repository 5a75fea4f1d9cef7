"""The update against plain loops, known optimal values, and itself after a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ldcq.config import Config
from ldcq.critic.algorithm1 import (
    LDCQ,
    ValidationBatch,
    make_critic,
    polyak_update,
    weighted_td_loss,
)
from ldcq.critic.candidates import CachedCandidates
from ldcq.critic.diagnostics import Support
from ldcq.critic.replay import Minibatch, PrioritisedReplay
from ldcq.critic.transitions import Transitions, training_rows
from ldcq.data.latents import LatentTable

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")


class FixedSource:
    """Always the same batch and candidates."""

    def __init__(self, minibatch: Minibatch, candidates: Tensor) -> None:
        self.minibatch, self.candidates = minibatch, candidates

    def take(self, step: int) -> tuple[Minibatch, Tensor]:  # noqa: ARG002
        return self.minibatch, self.candidates

    def updated(self, step: int) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def test_polyak_keeps_most_of_the_old_target() -> None:
    old, new = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = old.weight.detach().clone()
    polyak_update(old, new, 0.005)
    torch.testing.assert_close(old.weight, 0.995 * before + 0.005 * new.weight)


def test_loss_is_the_weighted_mean_of_both_squared_errors() -> None:
    values, targets, weights = torch.randn(2, 6, 1), torch.randn(6, 1), torch.rand(6)
    expected = sum(
        float(weights[i])
        * sum((float(values[j, i, 0]) - float(targets[i, 0])) ** 2 for j in range(2))
        for i in range(6)
    )
    assert float(weighted_td_loss(values, targets, weights)) == pytest.approx(
        expected / 6, rel=1e-5
    )


def test_weights_act_on_single_samples() -> None:
    values = torch.zeros(2, 4, 1, requires_grad=True)
    targets = torch.ones(4, 1)
    weights = torch.tensor([1.0, 0.5, 0.25, 0.0])
    weighted_td_loss(values, targets, weights).backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    # d/dQ of w (Q - 1)^2 / 4 at Q = 0: every sample's gradient carries its own weight.
    torch.testing.assert_close(values.grad[..., 0], (-2 * weights / 4).expand(2, 4))


@pytest.mark.parametrize(
    "shapes", [((2, 4, 1), (4,), (4,)), ((2, 4, 1), (4, 1), (4, 1)), ((4, 1), (4, 1), (4,))]
)
def test_shapes_that_would_broadcast_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        weighted_td_loss(*(torch.zeros(shape) for shape in shapes))


def test_statistics_are_those_of_the_states_and_of_the_latents_drawn(
    make_config: MakeConfig, table: LatentTable
) -> None:
    transitions = Transitions.of(table, np.arange(40), CPU)
    critic = make_critic(transitions, make_config())
    np.testing.assert_allclose(critic.state_normaliser.mean, table.state.mean(0), atol=1e-6)
    np.testing.assert_allclose(critic.state_normaliser.std, table.state.std(0), rtol=1e-5)
    draws = np.random.default_rng(0).normal(size=(20_000, 40, 2)) * table.latent_std
    np.testing.assert_allclose(
        critic.latent_normaliser.std, (draws + table.latent_mean).std((0, 1)), rtol=1e-2
    )


def test_the_first_update_against_a_plain_loop(make_config: MakeConfig, table: LatentTable) -> None:
    config = make_config(reward_scale=0.5, learning_rate=1e-3)
    rows = np.array([0, 6, 7, 13])
    # No spread, so that the latents drawn are known.
    transitions = Transitions.of(table, np.arange(40), CPU)
    transitions.latent_std.zero_()
    minibatch = Minibatch(rows, np.array([1.0, 0.5, 0.25, 0.125], np.float32))
    candidates = torch.randn(4, 3, 2)
    replay = PrioritisedReplay(config.critic.replay, 40)
    learner = LDCQ(config, transitions, replay, FixedSource(minibatch, candidates))
    critic, target = deepcopy(learner.critic), deepcopy(learner.target)

    metrics = learner.update(0)

    loss = torch.zeros(())
    errors = []
    for i, row in enumerate(rows):
        state, following = transitions.state[row : row + 1], transitions.next_state[row : row + 1]
        best = max(
            float(target.q_values(following, candidates[i, k : k + 1]).min()) for k in range(3)
        )
        y = 0.5 * float(table.reward[row]) + float(table.discount[row]) * best
        values = critic.q_values(state, transitions.latent_mean[row : row + 1])[:, 0]
        loss = loss + float(minibatch.weights[i]) * (values - y).square().sum() / 4
        errors.append((values - y).abs().mean().item())
    torch.testing.assert_close(torch.as_tensor(metrics["loss"]), loss.detach())
    assert float(metrics["td_error"]) == pytest.approx(np.mean(errors) / 0.5, rel=1e-4)
    priorities = replay.state_dict()["priorities"][rows]
    np.testing.assert_allclose(priorities, (np.array(errors) + 1e-6) ** 0.7, rtol=1e-4)

    optimiser = torch.optim.Adam(critic.parameters(), lr=1e-3)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    for got, want, old, first in zip(
        learner.critic.parameters(),
        critic.parameters(),
        learner.target.parameters(),
        target.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-6)
        torch.testing.assert_close(old, 0.9 * first + 0.1 * want, rtol=1e-4, atol=2e-6)


def test_latents_are_drawn_from_the_posterior_at_each_use(table: LatentTable) -> None:
    transitions = Transitions.of(table, np.full(20_000, 3), CPU)
    drawn = transitions.draw_latents(torch.Generator().manual_seed(0))
    np.testing.assert_allclose(drawn.mean(0), table.latent_mean[3], atol=0.02)
    np.testing.assert_allclose(drawn.std(0), table.latent_std[3], rtol=0.03)


def chain() -> tuple[LatentTable, np.ndarray]:
    """States 0..4 in a row, latents +1 and -1 move; entering 4 gives 1 and ends the episode.

    Returns:
        Every transition, and the optimal value of each by value iteration.
    """
    pairs = [(s, z) for s in range(4) for z in (-1, 1)]
    following = np.array([max(0, s + z) for s, z in pairs])
    goal = following == 4
    optimal = np.zeros(8)
    for _ in range(100):
        best = np.append(optimal.reshape(4, 2).max(1), 0)
        optimal = goal + 0.8 * ~goal * best[following]
    column = np.array(pairs, np.float32)
    table = LatentTable(
        state=column[:, :1],
        latent_mean=column[:, 1:],
        latent_std=np.zeros((8, 1), np.float32),
        reward=goal.astype(np.float32),
        discount=np.where(goal, 0, 0.8).astype(np.float32),
        next_state=following[:, None].astype(np.float32),
        episode=np.zeros(8, np.int64),
        step=np.arange(8),
        validation=np.zeros(8, np.bool_),
    )
    return table, optimal


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_values_of_a_chain_approach_the_optimal_ones(make_config: MakeConfig, alpha: float) -> None:
    table, optimal = chain()
    config = make_config(
        updates=800,
        hidden=(32, 32),
        batch_size=32,
        learning_rate=3e-3,
        candidates=2,
        cached_candidates=2,
        reward_scale=0.2,
        target_update_rate=0.05,
        replay={"alpha": alpha},
    )
    transitions = Transitions.of(table, training_rows(table, None, 0), CPU)
    replay = PrioritisedReplay(config.critic.replay, 8)
    cached = np.tile(np.array([[[-1.0], [1.0]]], np.float16), (8, 1, 1))
    learner = LDCQ(config, transitions, replay, CachedCandidates(config, cached, replay))
    learner.run()
    with torch.no_grad():
        values = learner.critic.score(transitions.state, transitions.latent_mean[:, None])[:, 0]
    np.testing.assert_allclose(values, optimal, atol=0.05)


def test_validation_is_in_units_of_return(make_config: MakeConfig, table: LatentTable) -> None:
    config = make_config(reward_scale=0.1)
    transitions = Transitions.of(table, np.arange(8), CPU)
    replay = PrioritisedReplay(config.critic.replay, 8)
    source = FixedSource(Minibatch(np.arange(8), np.ones(8, np.float32)), torch.randn(8, 3, 2))
    latents = torch.randn(8, 2)
    support = Support.of(transitions, transitions.state, latents)
    validation = ValidationBatch(transitions, latents, torch.randn(8, 3, 2), support)
    learner = LDCQ(config, transitions, replay, source, validation)
    found = {name: float(value) for name, value in learner.validate().items()}
    with torch.no_grad():
        scores = learner.critic.score(transitions.next_state, validation.candidates)
        targets = transitions.reward + transitions.discount * scores.amax(1)  # Both nets are alike.
        values = learner.critic.q_values(transitions.state, validation.latents) / 0.1
        own = values.amin(0).mean()
    assert found["max_q"] == pytest.approx(float(scores.amax(1).mean()), rel=1e-4)
    assert found["td_error"] == pytest.approx(float((values - targets).abs().mean()), rel=1e-4)
    assert found["own_q"] == pytest.approx(float(own), rel=1e-4)
    assert found["spread"] == pytest.approx(float(scores.std(1, correction=0).mean()), rel=1e-4)
    assert {"agreement", "max_gain", "off_support", "off_support_unranked"} < found.keys()
    assert LDCQ(config, transitions, replay, source).validate() == {}


def test_only_training_windows_are_replayed(table: LatentTable) -> None:
    rows = training_rows(table, None, 0)
    assert len(rows) == 32
    assert not table.validation[rows].any()
    some = training_rows(table, 10, 0)
    assert len(set(some)) == 10
    assert set(some) <= set(rows)
    np.testing.assert_array_equal(some, training_rows(table, 10, 0))
    assert set(some) != set(training_rows(table, 10, 1))


@pytest.mark.parametrize(("share", "rewarded"), [(0.0, None), (0.3, 3), (0.9, 4)])
def test_a_share_of_the_replay_comes_from_windows_with_rewards(
    table: LatentTable, share: float, rewarded: int | None
) -> None:
    reward = np.zeros(40, dtype=np.float32)
    reward[[0, 1, 2, 3, 4]] = 1, 1, -1, 1, 1  # one of them is kept for validation
    rows = training_rows(replace(table, reward=reward), 10, 0, share)
    assert len(set(rows)) == 10
    assert not table.validation[rows].any()
    assert (np.diff(rows) > 0).all()
    if rewarded is None:
        np.testing.assert_array_equal(rows, training_rows(table, 10, 0))
    else:
        assert (reward[rows] != 0).sum() == rewarded, "all there are, where those are fewer"
