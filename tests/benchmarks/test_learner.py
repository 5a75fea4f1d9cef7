"""The learner's benchmark compares two implementations of the same update."""

from __future__ import annotations

import pytest
import torch

from benchmarks.learner import _result, run
from benchmarks.plain import PlainLearner
from ldcq.config import CriticConfig
from ldcq.critic.critic import Critic
from ldcq.critic.q_network import QNetwork
from ldcq.critic.targets import bootstrapped
from ldcq.critic.transitions import Transitions
from ldcq.nn.model import Dimensions
from tests.benchmarks.laps import timed_laps


def test_figures_by_name() -> None:
    result = run(windows=300, candidates=5, batch=8, state_dim=3, latent_dim=2, warm_up=1, rounds=2)
    assert set(result.summary) == {"ratio_to_plain", "ratio_without_replay", "target_ratio"}
    assert [row["implementation"] for row in result.rows] == ["plain", "ldcq"]


def test_critics_that_draw_their_candidates_have_rows_of_their_own() -> None:
    few = {"candidates": 2, "sampling": {"steps": 2, "extra_steps": 0}}
    sizes = {"windows": 300, "candidates": 5, "batch": 8, "state_dim": 3, "warm_up": 1, "rounds": 1}
    result = run(**sizes, online={"online": few})  # type: ignore[arg-type]
    assert [row["implementation"] for row in result.rows] == ["plain", "ldcq", "online"]
    assert "online: preset `paper`" in result.notes[1]
    assert "candidates 2" in result.notes[1]


def test_the_figures_are_ratios_of_medians() -> None:
    """Milliseconds of three updates each: the slowest and the fastest do not count."""
    plain = timed_laps(
        {"total": 100.0, "sampling": 10.0, "target": 40.0, "priorities": 6.0},
        {"total": 900.0, "sampling": 90.0, "target": 90.0, "priorities": 90.0},
        {"total": 50.0, "sampling": 1.0, "target": 1.0, "priorities": 1.0},
    )
    ours = timed_laps({"total": 20.0, "sampling": 2.0, "target": 8.0, "priorities": 4.0})
    result = _result({"plain": plain, "ldcq": ours})
    assert result.summary == pytest.approx(
        {"ratio_to_plain": 5.0, "ratio_without_replay": 84 / 14, "target_ratio": 5.0}
    )
    assert [row["updates_per_second"] for row in result.rows] == pytest.approx([10.0, 50.0])
    assert [row["gradient_ms"] for row in result.rows] == pytest.approx([44.0, 6.0])


def test_the_plain_target_is_ours() -> None:
    torch.manual_seed(0)
    critic = Critic(Dimensions(state=3, latent=2), CriticConfig(hidden=(16, 8)))
    state, mean, std, reward, discount, following = (torch.randn(6, n) for n in (3, 2, 2, 1, 1, 3))
    windows = Transitions(state, mean, std, reward, discount, following)
    candidates = torch.randn(6, 9, 2)
    plain = PlainLearner(
        CriticConfig(hidden=(16, 8)), windows, candidates, lambda _, function: function
    )
    for target, network in zip(plain.targets, critic.networks, strict=True):
        assert isinstance(network, QNetwork)
        linear: list[torch.nn.Module] = [network.first, *network.layers]
        for ours, theirs in zip(linear, list(target)[::3], strict=True):
            theirs.load_state_dict(ours.state_dict())
    reward, discount = torch.randn(6), torch.rand(6)
    with torch.no_grad():
        worth = critic.greatest(windows.next_state, candidates)
    expected = bootstrapped(reward, discount, worth)
    found = plain.target(reward, discount, windows.next_state, candidates)
    torch.testing.assert_close(found, expected)
