"""LDCQ takes the candidate that the critic values most."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldcq.config import (
    ConfigError,
    CriticConfig,
    SamplingConfig,
    SupportConfig,
    WorldModelConfig,
)
from ldcq.critic.critic import Critic
from ldcq.nn.model import Dimensions
from ldcq.nn.normaliser import Normaliser
from ldcq.policies.base import Execution, NotFiniteError
from ldcq.policies.ldcq import LdcqPolicy
from ldcq.support import StateSupport
from ldcq.world_model import WorldModel
from tests.ldcq.policies.standins import NoisePrior, decoder


def policy(
    prior: NoisePrior, candidates: int = 6, world_model: WorldModel | None = None
) -> LdcqPolicy:
    torch.manual_seed(0)
    critic = Critic(Dimensions(state=3, latent=2), CriticConfig(hidden=(16, 8)))
    critic.requires_grad_(False)
    support = SupportConfig(quantile=0.5, kept=0.1) if world_model else None
    return LdcqPolicy(
        decoder(),
        prior,
        critic,
        candidates,
        SamplingConfig(),
        Execution(4),
        world_model=world_model,
        support=support,
    )


class Moving(WorldModel):
    """A latent moves the first two entries of the state."""

    def ends(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        moved = states + torch.cat([latents, torch.zeros_like(latents[..., :1])], dim=-1)
        return moved.unsqueeze(-2)


def moving() -> WorldModel:
    """With data around the origin of standardised states."""
    torch.manual_seed(1)
    model = Moving(Dimensions(state=3, latent=2), WorldModelConfig(reference_states=100))
    model.state_normaliser = Normaliser(torch.tensor([0.5, 0, 0]), torch.tensor([0.7, 1, 0.8]))
    model.support = StateSupport.of(*torch.randn(2, 100, 3))
    return model


def test_the_best_candidate_of_every_state_is_executed() -> None:
    prior = NoisePrior()
    acting = policy(prior)
    states = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    actions, plan = acting.act(states, None, None, None, seed=3)
    (draw,) = prior.draws
    drawn = prior.latents(draw)
    for state, own, chosen in zip(states, drawn, plan.latents, strict=True):
        values = [
            float(acting.critic.q_values(torch.tensor(state[None]), torch.tensor(one[None])).min())
            for one in own
        ]
        np.testing.assert_array_equal(chosen, own[int(np.argmax(values))])
    expected = acting.decoder.act(torch.tensor(states), torch.tensor(plan.latents))
    np.testing.assert_array_equal(actions, expected.numpy())
    assert (acting.candidates, acting.paths, acting.goal_dim) == (6, 6, 0)


def test_the_best_candidate_that_leads_to_the_data_is_executed() -> None:
    """At states of the data, and far off them, where the closest of 6 candidates is taken."""
    model = moving()
    prior = NoisePrior()
    acting, free = policy(prior, world_model=model), policy(NoisePrior())
    states = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    states[20:] += 30
    chosen, unchecked = acting.choose(states, None, 3), free.choose(states, None, 3)
    known, limit = model.support.known.numpy(), float(model.support.limit(0.5))
    off = 0
    for row, own in enumerate(prior.latents(prior.draws[0])):
        ends = (states[row] + np.pad(own, ((0, 0), (0, 1))) - [0.5, 0, 0]) / [0.7, 1, 0.8]
        apart = np.sort(np.linalg.norm(ends[:, None] - known, axis=2), axis=1)[:, 9]
        allowed = apart <= max(limit, np.quantile(apart, 0.1))
        repeated = torch.tensor(states[row]).expand(1, 3)
        values = acting.critic.score(repeated, torch.tensor(own[None]))[0].numpy()
        best = np.where(allowed, values, -np.inf).argmax()
        np.testing.assert_array_equal(chosen[row], own[best])
        if row >= 20:
            assert best == apart.argmin()
        off += not allowed[values.argmax()]
        np.testing.assert_array_equal(unchecked[row], own[values.argmax()])
    assert off > 10, "often the best of all leads off the data"


def test_more_candidates_than_the_prior_gives_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"actor.candidates is 7, expected at most 6"):
        policy(NoisePrior(max_rows=6), candidates=7)


@pytest.mark.parametrize(("most", "considered"), [(9, [2, 4, 9]), (5, [2, 4]), (2, [2]), (1, [2])])
def test_latent_and_steps_are_chosen_together(most: int, considered: list[int]) -> None:
    """argmax_(z, k) of Q(s, z, k) over the lengths up to `execution.steps`; H is 9."""
    torch.manual_seed(0)
    config = CriticConfig(hidden=(16, 8), target="expectile_return", dueling=True)
    critic = Critic(Dimensions(state=3, latent=2, lengths=3), config).requires_grad_(False)
    prior, steps = NoisePrior(), Execution(most)
    acting = LdcqPolicy(decoder(), prior, critic, 6, SamplingConfig(), steps, lengths=(2, 4))
    states = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    _, plan = acting.act(states, None, None, None, seed=3)
    drawn = torch.from_numpy(prior.latents(prior.draws[0]))
    values = critic.score_by_length(torch.from_numpy(states), drawn)
    places = [[2, 4, 9].index(k) for k in considered]
    for row, (latent, left) in enumerate(zip(plan.latents, plan.steps_left, strict=True)):
        pairs = [(float(values[row, z, p]), z, p) for z in range(6) for p in places]
        _, z, p = max(pairs)
        np.testing.assert_array_equal(latent, drawn[row, z].numpy())
        assert left == min([2, 4, 9][p], most) - 1
    assert len(set(plan.steps_left.tolist())) > 1 or len(considered) == 1


class Foreseeing(WorldModel):
    """A latent moves the state, adds up as rewards, and ends the episode where its first entry is
    positive.
    """

    _STEPS = torch.tensor([2.0, 4.0, 9.0])

    def ends(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        moved = torch.cat([latents, torch.zeros_like(latents[..., :1])], dim=-1).unsqueeze(-2)
        return states.unsqueeze(-2) + moved * self._STEPS.unsqueeze(-1)

    def earnings(
        self,
        states: torch.Tensor,  # noqa: ARG002
        latents: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ended = (latents[..., :1] > 0) & (self._STEPS == 9)
        rewards = latents.sum(dim=-1, keepdim=True) * self._STEPS
        return rewards, torch.where(ended, 0.0, 0.9**self._STEPS)


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_candidates_are_valued_by_where_they_lead(weight: float) -> None:
    torch.manual_seed(0)
    size = Dimensions(state=3, latent=2, lengths=3)
    settings = CriticConfig(
        hidden=(16, 8), target="expectile_return", dueling=True, reward_scale=0.01
    )
    critic = Critic(size, settings).requires_grad_(False)
    model, prior = Foreseeing(size, WorldModelConfig(rewards=True)), NoisePrior()
    given = decoder(), prior, critic, 6, SamplingConfig(), Execution(9)
    acting = LdcqPolicy(*given, lengths=(2, 4), world_model=model, lookahead=weight)
    states = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    chosen, steps = acting.plan(states, None, 3)
    drawn, ends_matter = prior.latents(prior.draws[0]), 0
    own = critic.score_by_length(torch.from_numpy(states), torch.from_numpy(drawn)).numpy()
    for row, state in enumerate(states):
        values = np.empty((6, 3))
        for z, latent in enumerate(drawn[row]):
            for place, k in enumerate((2, 4, 9)):
                end = torch.tensor(state + k * np.append(latent, 0))[None].float()
                after = float(critic.v_values(end)) / 0.01
                discount = 0.0 if k == 9 and latent[0] > 0 else 0.9**k
                looked = k * latent.sum() + discount * after
                values[z, place] = weight * looked + (1 - weight) * own[row, z, place]
        z, place = divmod(int(values.argmax()), 3)
        np.testing.assert_array_equal(chosen[row], drawn[row, z])
        assert steps[row] == (2, 4, 9)[place]
        ends_matter += z != int(own[row].max(axis=1).argmax())
    assert ends_matter > 5


@pytest.mark.parametrize(
    ("known", "rewards", "dueling", "message"),
    [
        (3, False, True, "trained without world_model.rewards"),
        (2, True, True, "world model was trained with 1, the critic with 2"),
        (3, True, False, r"trained without V\(s\)"),
    ],
)
def test_models_that_cannot_look_ahead_together_are_refused(
    known: int, rewards: bool, dueling: bool, message: str
) -> None:
    size = Dimensions(state=3, latent=2, lengths=3)
    critic = Critic(size, CriticConfig(hidden=(16, 8), dueling=dueling))
    made = size.model_copy(update={"lengths": known})
    model = WorldModel(made, WorldModelConfig(rewards=rewards))
    given = decoder(), NoisePrior(), critic, 6, SamplingConfig(), Execution(9), (2, 4)
    with pytest.raises(ConfigError, match=message):
        LdcqPolicy(*given, world_model=model, lookahead=0.5)


def test_a_state_whose_candidates_have_no_finite_value_is_named() -> None:
    acting = policy(NoisePrior())
    states = np.zeros((4, 3), np.float32)
    chosen, _ = acting.plan(states, None, 3)
    states[2] = 1e38
    acted, _ = acting.plan(states, None, 3)
    np.testing.assert_array_equal(acted[[0, 1, 3]], chosen[[0, 1, 3]])
    assert np.isnan(acted[2]).all()
    restart = np.array([False, True, True, True])
    plan = acting.act(np.zeros((4, 3), np.float32), None, None, None, 0)[1]
    with pytest.raises(NotFiniteError, match="states: got a row 2 whose latents or their values"):
        acting.act(states, None, plan, restart, 0)


def test_lengths_that_the_critic_does_not_value_are_refused() -> None:
    critic = Critic(Dimensions(state=3, latent=2, lengths=3), CriticConfig(hidden=(16, 8)))
    given = decoder(), NoisePrior(), critic, 6, SamplingConfig(), Execution(4)
    with pytest.raises(ConfigError, match=r"lengths is \[\], expected 2 numbers of steps"):
        LdcqPolicy(*given)
