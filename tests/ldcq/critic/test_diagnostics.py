"""Diagnostics against NumPy, and on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.config import CriticConfig
from ldcq.critic.critic import Critic
from ldcq.critic.diagnostics import (
    Support,
    agreement,
    calibration,
    candidate_metrics,
    displacements,
    predictions,
    ranks,
)
from ldcq.nn.model import Dimensions


@pytest.fixture
def support() -> Support:
    """Data whose latents equal their states on the line from -2 to 2, seen with a little noise."""
    line = torch.linspace(-2, 2, 401)[:, None]
    own = line + 0.05 * torch.randn(line.shape, generator=torch.Generator().manual_seed(0))
    return Support(line, line, line, own)


def test_candidate_metrics_are_those_of_plain_loops(critic: Critic) -> None:
    torch.manual_seed(1)
    states, candidates = torch.randn(7, 3), torch.randn(7, 4, 5)
    support = Support(states, candidates[:, 0], torch.randn(9, 3), torch.randn(9, 5))
    with torch.no_grad():
        found = candidate_metrics(critic, states, candidates, support)
        scores = critic.score(states, candidates).numpy()
        chosen = candidates[np.arange(7), scores.argmax(1)]
        off = [bool(support.outside(s[None], z[None, None])) for s, z in zip(states, chosen)]  # noqa: B905
    assert float(found["max_q"]) == pytest.approx(scores.max(1).mean(), rel=1e-5)
    assert float(found["spread"]) == pytest.approx(scores.std(1).mean(), rel=1e-4)
    gain = scores.max(1) - scores.mean(1)
    assert float(found["max_gain"]) == pytest.approx(gain.mean(), rel=1e-4)
    assert float(found["off_support"]) == pytest.approx(np.mean(off))
    assert found["off_support_unranked"] == 0  # the first candidates are the data


def test_agreement_is_of_deviations_from_each_states_mean() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(3, 20, 8))
    centred = (values - values.mean(2, keepdims=True)).reshape(3, -1)
    pairs = [np.corrcoef(centred[i], centred[j])[0, 1] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert float(agreement(torch.from_numpy(values))) == pytest.approx(np.mean(pairs))
    # What the networks share between states is none of the argmax's business.
    level = 100 * random.normal(size=(20, 1))
    assert float(agreement(torch.from_numpy(values + level))) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("sign", [1, -1])
def test_networks_that_rank_alike_or_opposite_agree_fully(sign: int) -> None:
    first = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    other = 3 * sign * first + torch.arange(6.0)[:, None]
    assert float(agreement(torch.stack([first, other]))) == pytest.approx(sign, rel=1e-5)


def test_a_critic_of_one_network_has_no_agreement(support: Support) -> None:
    critic = Critic(Dimensions(state=1, latent=1), CriticConfig(hidden=(4,)))
    critic.networks = critic.networks[:1]
    states, candidates = torch.zeros(3, 1), torch.zeros(3, 2, 1)
    assert "agreement" not in candidate_metrics(critic, states, candidates, support)


def test_the_limit_is_what_the_datas_own_latents_keep_to(support: Support) -> None:
    states = torch.linspace(-2, 2, 2000)[:, None]
    noise = 0.05 * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    own = support.outside(states, (states + noise)[:, None])
    assert float(own.float().mean()) == pytest.approx(0.05, abs=0.02)
    # A latent of the data, but of another state, is off the support.
    assert support.outside(states, -states[:, None])[states[:, 0].abs() > 0.5].all()


def test_nearest_says_which_pair_and_how_far(support: Support) -> None:
    line = np.linspace(-2, 2, 401)
    distances, rows = support.nearest(torch.tensor([[1.0]]), torch.tensor([[[1.0], [1.4]]]))
    scale = line.std()
    apart = np.hypot(2 * (line - 1.0) / scale, (line - 1.4) / scale)
    assert rows.tolist() == [[300, apart.argmin()]]
    np.testing.assert_allclose(distances[0], [0, apart.min()], atol=2e-3)


def test_a_value_of_the_true_return_is_calibrated() -> None:
    rewards = np.random.default_rng(0).random(40)
    true = [sum(0.9**i * r for i, r in enumerate(rewards[t:])) for t in range(40)]
    steps = np.array([0, 10, 20, 30])
    promised, earned = calibration(np.array(true)[steps], steps, rewards, 0.9, ended=True)
    np.testing.assert_allclose(promised, earned)
    assert len(earned) == 4
    # The same where a limit cut the episode in the middle of what the values are of.
    promised, earned = calibration(np.array(true)[steps], steps, rewards[:35], 0.9, ended=False)
    np.testing.assert_allclose(promised, earned)
    assert len(earned) == 3


def test_values_twice_as_high_promise_twice_as_much() -> None:
    rewards, steps = np.ones(30), np.array([0, 10, 20])
    value = np.full(3, 2 / (1 - 0.9))  # a reward of 1 for ever is worth 10
    promised, earned = calibration(value, steps, rewards, 0.9, ended=False)
    np.testing.assert_allclose(promised / earned, 2)


def test_displacements_stay_within_episodes() -> None:
    states = np.array([[0, 0], [3, 4], [3, 4], [50, 0], [50, 1], [50, 3]], dtype=np.float32)
    episode = np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(displacements(states, episode, 1), [5, 0, 1, 2])
    np.testing.assert_allclose(displacements(states, episode, 2), [5, 3])
    assert displacements(states, episode, 3).size == 0
    assert displacements(states, episode, 9).size == 0


def test_ranks_of_equal_values_are_their_mean() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0, 2.5, 1]


def test_a_measure_that_orders_policies_is_found_among_chance() -> None:
    random, score = np.random.default_rng(0), np.arange(12.0)
    measures = {f"chance {i}": random.normal(size=12) for i in range(5)}
    measures |= {"signal": -np.exp(score), "equal": np.ones(12), "unknown": np.full(12, np.nan)}
    found = predictions(measures, score, np.zeros(12))
    assert next(iter(found)) == "signal"
    assert "unknown" not in found
    assert found["signal"]["spearman"] == pytest.approx(-1)
    assert found["signal"]["p"] < 0.01
    assert found["equal"] == {"spearman": 0, "p": 1}
    plain = np.corrcoef(measures["chance 0"].argsort().argsort(), score)[0, 1]
    assert found["chance 0"]["spearman"] == pytest.approx(plain)


def test_the_best_of_many_measures_by_chance_is_no_prediction() -> None:
    random, score, one = np.random.default_rng(1), np.arange(6.0), np.zeros(6)
    strongest = [
        next(
            iter(
                predictions({str(i): random.normal(size=6) for i in range(7)}, score, one).values()
            )
        )
        for _ in range(60)
    ]
    assert np.mean([found["p"] < 0.05 for found in strongest]) < 0.15


def test_only_policies_of_one_group_are_compared() -> None:
    groups = np.repeat([0, 1], 5)
    within = np.tile(np.arange(5.0), 2)
    score = within + 100 * groups
    found = predictions({"group": 1.0 * groups, "within": -within - 9 * groups}, score, groups)
    assert found["group"] == {"spearman": 0, "p": 1}
    assert found["within"]["spearman"] == pytest.approx(-1)
    assert found["within"]["p"] < 0.05
    mixed = -within - 2.5 * groups  # ranked over all policies it says less
    assert predictions({"mixed": mixed}, score, np.zeros(10))["mixed"]["spearman"] > -0.99
