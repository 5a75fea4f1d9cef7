"""Rules of `critic.target` on chains whose values are known; a learner after a restart."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ldcq.config import Config, override
from ldcq.critic.algorithm1 import LDCQ
from ldcq.critic.candidates import NoCandidates
from ldcq.critic.replay import Minibatch, PrioritisedReplay
from ldcq.critic.transitions import Transitions
from ldcq.data.latents import LatentTable
from tests.ldcq.critic.test_algorithm1 import FixedSource, chain

MakeConfig = Callable[..., Config]
CPU = torch.device("cpu")
GAMMA = 0.8
LEARNING = {
    "updates": 400,
    "hidden": (32, 32),
    "batch_size": 8,
    "learning_rate": 5e-3,
    "schedule": "one_cycle",
    "candidates": 2,
    "target_update_rate": 0.2,
}
RULES = [
    *((target, None, d) for target in ("max_min", "argmax_min", "mean") for d in (False, True)),
    *((f"expectile_{of}", tau, False) for of in ("prior", "data") for tau in (0.5, 0.99)),
    *(("expectile_return", tau, d) for tau in (0.5, 0.99) for d in (False, True)),
]


def learn(config: Config, table: LatentTable, candidates: Tensor) -> LDCQ:
    """Trained on all rows at once, in every update."""
    rows = np.arange(len(table.reward))
    transitions = Transitions.of(table, rows, CPU)
    source = FixedSource(Minibatch(rows, np.ones(len(rows), np.float32)), candidates)
    replay = PrioritisedReplay(config.critic.replay, len(rows))
    learner = LDCQ(config, transitions, replay, source)
    learner.run()
    return learner


def both() -> Tensor:
    """The candidates of `chain`: both latents, everywhere."""
    return torch.tensor([[[-1.0], [1.0]]]).expand(8, -1, -1)


def inputs(table: LatentTable) -> tuple[Tensor, Tensor]:
    """States and their own latents as single candidates."""
    return torch.from_numpy(table.state), torch.from_numpy(table.latent_mean[:, None])


def behaviour() -> np.ndarray:
    """Of `chain`, where both latents are as likely."""
    table, _ = chain()
    following = table.next_state[:, 0].astype(int)
    values = np.zeros(8)
    for _ in range(200):
        mean = np.append(values.reshape(4, 2).mean(1), 0)
        values = table.reward + table.discount * mean[following]
    return values


@pytest.mark.parametrize(("target", "expectile", "dueling"), RULES)
def test_values_approach_those_that_the_rule_is_for(
    make_config: MakeConfig, target: str, expectile: float | None, dueling: bool
) -> None:
    table, optimal = chain()
    known = behaviour() if target == "mean" or expectile == 0.5 else optimal
    config = make_config(target=target, expectile=expectile or 0.9, dueling=dueling, **LEARNING)
    critic = learn(config, table, both()).critic
    with torch.no_grad():
        values = critic.score(*inputs(table))
    np.testing.assert_allclose(values[:, 0], known, atol=0.05)


def halting() -> LatentTable:
    """States 0..4 in a row and windows of two steps: latent 1 moves twice, -1 waits once and moves;
    entering 4 gives 1 and ends the episode.
    """
    pairs = [(s, z) for s in range(4) for z in (-1, 1) if (s, z) != (3, 1)]
    count = len(pairs)
    state, latent = np.array(pairs, np.float32)[:, None].transpose(2, 0, 1)
    middle, end = state + (latent > 0), state + 1 + (latent > 0)
    return LatentTable(
        state=state,
        latent_mean=latent,
        latent_std=np.zeros((count, 1), np.float32),
        reward=(GAMMA * (end == 4))[:, 0].astype(np.float32),
        discount=np.where(end == 4, 0, GAMMA**2)[:, 0].astype(np.float32),
        next_state=end,
        episode=np.arange(count),
        step=np.zeros(count, np.int64),
        validation=np.zeros(count, np.bool_),
        part_reward=np.zeros((count, 1), np.float32),
        part_state=middle[:, None].astype(np.float32),
    )


@pytest.mark.parametrize(
    ("target", "dueling"), [("expectile_return", True), ("expectile_data", False)]
)
def test_a_latent_is_valued_for_each_number_of_steps(
    make_config: MakeConfig, target: str, dueling: bool
) -> None:
    table, g = halting(), GAMMA
    critic = {"target": target, "expectile": 0.99, "dueling": dueling, **LEARNING}
    config = override(make_config(**critic), {"horizon": 2, "lengths": [1], "discount": g})
    learner = learn(config, table, torch.empty(len(table.reward), 0, 0))
    with torch.no_grad():
        values = learner.critic.score_by_length(*inputs(table))[:, 0]
    # From 3 one has to wait: V(3) = g. From 1, one step and then V(2) = g is better than two.
    known = [
        *([g**4, g**4], [g**3, g**3]),  # 0: waits, moves
        *([g**3, g**3], [g**2, g**3]),  # 1
        *([g**2, g**3], [g**2, g]),  # 2
        [g**2, g],  # 3: waits
    ]
    np.testing.assert_allclose(values, known, atol=0.05)
    assert values[3, 0] > values[3, 1] + 0.05
    assert values[5, 1] > values[5, 0] + 0.05


def test_a_dueling_learner_continues_to_the_bit(
    make_config: MakeConfig, table: LatentTable
) -> None:
    random = np.random.default_rng(1)
    valued = replace(
        table,
        part_reward=random.normal(size=(40, 1)).astype(np.float32),
        part_state=random.normal(size=(40, 1, table.state.shape[1])).astype(np.float32),
    )
    critic = {"target": "expectile_return", "dueling": True, "schedule": "one_cycle"}
    config = override(make_config(**critic, fourier_features=4), {"lengths": [10]})
    transitions = Transitions.of(valued, np.arange(40), CPU)

    def fresh() -> LDCQ:
        replay = PrioritisedReplay(config.critic.replay, 40)
        return LDCQ(config, transitions, replay, NoCandidates(config, replay))

    whole, first, second = fresh(), fresh(), fresh()
    whole.run()
    for step in range(7):
        first.update(step)
    second.load_state_dict(deepcopy(first.state_dict()))
    for step in range(7, config.critic.updates):
        second.update(step)
    for name in ("critic", "target"):
        found, expected = second.state_dict()[name], whole.state_dict()[name]
        assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert whole.critic.spread.shape == (2,)
    assert (whole.critic.spread != 1).all()


@pytest.mark.parametrize("target", sorted({rule for rule, *_ in RULES}))
def test_four_networks_and_their_lower_bound_can_be_trained(
    make_config: MakeConfig, target: str
) -> None:
    table, _ = chain()
    ensemble = {**LEARNING, "networks": 4, "deviations": 1.0, "updates": 100, "reward_scale": 0.5}
    critic = learn(make_config(target=target, **ensemble), table, both()).critic
    with torch.no_grad():
        q = critic.q_values(*inputs(table))[..., 0]
        lower = critic.score(*inputs(table))[:, 0]
    assert q.shape == (4, 8)
    np.testing.assert_allclose(lower, (q.mean(0) - q.std(0)) / 0.5, rtol=1e-4)
    assert (lower < q.mean(0) / 0.5).all()
    assert lower[-1] == pytest.approx(1.0, abs=0.2), "the last step's value is its reward"


@pytest.mark.parametrize("target", ["max_min", "expectile_data"])
def test_values_may_be_means_of_distributions_over_bins(
    make_config: MakeConfig, target: str
) -> None:
    table, optimal = chain()
    settings = {**LEARNING, "target": target, "expectile": 0.99, "reward_scale": 0.5}
    config = make_config(bins=41, bounds=(-0.5, 1.5), **settings)
    critic = learn(config, table, both()).critic
    with torch.no_grad():
        values = critic.score(*inputs(table))
        far = critic.score(torch.tensor([[100.0]]), torch.tensor([[[-50.0]]]))
    np.testing.assert_allclose(values[:, 0], optimal, atol=0.06)
    assert -0.5 < float(far) < 1.5


def test_targets_are_clipped_to_what_the_task_can_return(make_config: MakeConfig) -> None:
    table, _ = chain()
    config = make_config(bounds=(-1.0, 0.3), **{**LEARNING, "reward_scale": 0.5})
    critic = learn(config, table, both()).critic
    with torch.no_grad():
        values = critic.score(*inputs(table))[:, 0]
    np.testing.assert_allclose(values[6:], [0.24, 0.3], atol=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bins": 11}, "bounds is null, expected two numbers, since bins is 11"),
        (
            {"bins": 11, "bounds": (0, 1), "dueling": True},
            "dueling is true, expected false, since bins is 11",
        ),
        ({"bins": 1, "bounds": (0, 1)}, "bins is 1, expected 0, or at least 2"),
        ({"bounds": (1, 1)}, r"bounds is \[1.0, 1.0\], expected two numbers, ascending"),
    ],
)
def test_bins_without_bounds_are_refused(
    make_config: MakeConfig, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**settings)
