"""What is recorded of a policy's rollouts, against plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from common.data import Task
from ldcq.config import Config, CriticConfig, SamplingConfig
from ldcq.critic.critic import Critic
from ldcq.data.episodes import Spaces
from ldcq.data.latents import LatentTable
from ldcq.nn.model import Dimensions
from ldcq.policies.base import Execution, StatefulPolicy, derive_seed
from ldcq.policies.ldcq import LdcqPolicy
from services.actor.diagnosis import Rollouts, play
from tests.ldcq.policies.standins import NoisePrior, decoder

LIMIT, STEPS = 23, 4


class Walk(gymnasium.Env[Any, Any]):
    """A point that walks by its action and noise, or stands; ends beyond 1."""

    def __init__(self, moves: bool = True, ends: bool = True) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.moves, self.ends = moves, ends

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.position = self.np_random.normal(-2, 1, size=3).astype(np.float32)
        return self.position.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.moves:
            self.position += action + self.np_random.normal(1, 0.5, 3).astype(np.float32)
        ended = self.ends and bool(self.position[0] > 1)
        return self.position.copy(), float(self.position[1]), ended, False, {}


@pytest.fixture
def policy() -> LdcqPolicy:
    torch.manual_seed(0)
    critic = Critic(Dimensions(state=3, latent=2), CriticConfig(hidden=(16, 8), reward_scale=0.5))
    critic.requires_grad_(False)
    return LdcqPolicy(decoder(), NoisePrior(), critic, 5, SamplingConfig(), Execution(STEPS))


@pytest.fixture
def table() -> LatentTable:
    """Windows whose states move by 1 a step."""
    column = np.arange(30, dtype=np.float32)
    return LatentTable(
        state=np.stack([column, 0 * column, 0 * column], axis=1),
        latent_mean=np.zeros((30, 2), np.float32),
        latent_std=np.ones((30, 2), np.float32),
        reward=column,
        discount=column,
        next_state=np.zeros((30, 3), np.float32),
        episode=np.repeat(np.arange(3), 10),
        step=np.tile(np.arange(10), 3),
        validation=column < 10,
    )


def _play(
    policy: LdcqPolicy, table: LatentTable, episodes: int, lengths: Sequence[int] = (), **env: bool
) -> Rollouts:
    critic = {"target": "expectile_return"}
    config = Config.model_validate(
        {"discount": 0.9, "horizon": 9, "lengths": [*lengths], "critic": critic}
        | {"evaluation": {"seed": 7}, "vae": {"decoded_steps": None}}
    )
    spaces: Spaces = None  # type: ignore[assignment]
    return play(
        config, Task(lambda: Walk(**env), spaces, None, LIMIT, False, None), policy, table, episodes
    )


def _loop(policy: LdcqPolicy, ends: bool) -> tuple[list[float], list[float]]:
    """Values at the choices and rewards of one episode."""
    env, acting = Walk(ends=ends), StatefulPolicy(policy, seed=7)
    state, _ = env.reset(seed=7)
    values, rewards = [], []
    for step in range(LIMIT):
        action = acting.act(state[None])[0]
        if step % STEPS == 0:
            assert acting._plan is not None
            pair = torch.tensor(state[None]), torch.tensor(acting._plan.latents[None])
            values.append(float(policy.critic.score(*pair)))
        state, reward, ended, _, _ = env.step(np.clip(action, -1, 1).astype(np.float32))
        rewards.append(reward)
        if ended:
            break
    return values, rewards


@pytest.mark.parametrize("ends", [True, False])
def test_promised_and_earned_equal_a_plain_loop(
    policy: LdcqPolicy, table: LatentTable, ends: bool
) -> None:
    values, rewards = _loop(policy, ends)
    assert (len(rewards) < LIMIT) == ends
    found = _play(policy, table, episodes=1, ends=ends)
    last = len(rewards) if ends else STEPS * (len(values) - 1)
    for index, (promised, earned) in enumerate(zip(found.promised, found.earned, strict=True)):
        span = range(STEPS * index, last)
        after = 0 if ends else 0.9 ** len(span) * values[-1]
        assert promised == pytest.approx(values[index] - after, abs=1e-5)
        known = sum(0.9 ** (t - span.start) * rewards[t] for t in span)
        assert earned == pytest.approx(known, abs=1e-5)
    assert len(found.promised) == len(values) - (not ends)
    assert found.first.tolist() == [True] + [False] * (len(found.first) - 1)
    assert found.ratio == pytest.approx(found.promised[0] / found.earned[0])
    assert found.returns == pytest.approx([sum(rewards)], rel=1e-5)
    assert found.positions is None


def test_a_choice_promises_its_value_for_the_steps_that_were_chosen(table: LatentTable) -> None:
    torch.manual_seed(1)
    critic = Critic(Dimensions(state=3, latent=2, lengths=3), CriticConfig(hidden=(16, 8)))
    critic.requires_grad_(False)
    given = decoder(), NoisePrior(), critic, 5, SamplingConfig(), Execution(9)
    policy = LdcqPolicy(*given, lengths=(2, 4))
    starts = [Walk().reset(seed=seed)[0] for seed in range(7, 19)]
    found = _play(policy, table, episodes=12, lengths=(2, 4))
    latents, steps = policy.plan(np.stack(starts), None, derive_seed(7, 0))
    assert len(set(np.asarray(steps))) > 1
    values = critic.score_by_length(
        policy.tensor(np.stack(starts)), policy.tensor(latents).unsqueeze(1)
    )
    column = np.searchsorted([2, 4, 9], steps)
    promised = values[:, 0].numpy()[np.arange(12), column]
    # The number of rows of a product decides its last bits, which count where terms cancel.
    np.testing.assert_allclose(found.promised[found.first], promised, rtol=1e-5, atol=1e-6)
    others = np.abs(values[:, 0].numpy() - promised[:, None])
    others[np.arange(12), column] = np.inf
    assert others.min() > 1e-4, "no other number of steps promises the same"


def test_every_episode_has_one_first_choice(policy: LdcqPolicy, table: LatentTable) -> None:
    found = _play(policy, table, episodes=6)
    assert found.first.sum() == 6
    assert len(found.returns) == 6


def test_an_agent_that_does_not_move_stands_still(policy: LdcqPolicy, table: LatentTable) -> None:
    assert _play(policy, table, episodes=3, moves=False, ends=False).still == 1
    assert _play(policy, table, episodes=3, ends=False).still < 0.2
