"""LDCP over a world whose moves are known, and the costs it plans by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ldcq.config import Config, ConfigError, override
from ldcq.latent_prior import Draw
from ldcq.nn.model import Dimensions
from ldcq.policies.base import Execution
from ldcq.policies.costs import Cost, check_costs, euclidean, find_cost
from ldcq.policies.ldcp import LdcpPolicy
from ldcq.world_model import WorldModel
from tests.ldcq.policies.standins import NoisePrior, decoder

MOVES = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], np.float32)


class Menu(NoisePrior):
    """A prior that knows four moves; left of x = 0 and above y = 0 they are twice as long."""

    def latents(self, draw: Draw) -> np.ndarray:
        return np.stack([self.moves(state)[: draw.candidates] for state in draw.states])

    def moves(self, state: np.ndarray) -> np.ndarray:
        return MOVES * (2 if state[0] < 0 and state[1] > 0 else 1)


class Adding(WorldModel):
    """Where a latent leads: there."""

    def predict(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        return states + latents


def planner(
    depth: int,
    candidates: int = 4,
    cost: Cost | None = None,
    goal_dim: int = 2,
    prior: Menu | None = None,
) -> tuple[LdcpPolicy, Menu]:
    menu = prior or Menu()
    policy = LdcpPolicy(
        decoder(state=2, action=2, latent=2),
        menu,
        Adding(Dimensions(state=2, latent=2), Config().world_model),
        cost or euclidean([0, 1]),
        candidates,
        depth,
        Config().actor.sampling,
        Execution(4),
        goal_dim,
    )
    return policy, menu


def searched(state: np.ndarray, goal: np.ndarray, depth: int) -> set[int]:
    """Every path tried one after the other; the first moves of the best."""
    costs: dict[int, float] = {}
    for path in itertools.product(range(4), repeat=depth):
        place = state
        for move in path:
            place = place + Menu().moves(place)[move]
        cost = float(np.linalg.norm(place - goal))
        costs[path[0]] = min(costs.get(path[0], np.inf), cost)
    return {move for move, cost in costs.items() if cost < min(costs.values()) + 1e-5}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_first_move_of_the_best_path_is_taken(depth: int) -> None:
    policy, menu = planner(depth)
    random = np.random.default_rng(0)
    states = random.uniform(-3, 3, (40, 2)).astype(np.float32)
    goals = random.uniform(-3, 3, (40, 2)).astype(np.float32)
    chosen = policy.choose(states, goals, seed=1)
    for state, goal, move in zip(states, goals, chosen, strict=True):
        best = [menu.moves(state)[i] for i in searched(state, goal, depth)]
        assert any(np.array_equal(move, each) for each in best)


def test_every_level_is_one_call_for_all_states() -> None:
    policy, menu = planner(3)
    goals = np.arange(10, dtype=np.float32).reshape(5, 2)
    policy.choose(np.zeros((5, 2), np.float32), goals, 0)
    assert [len(draw.states) for draw in menu.draws] == [5, 20, 80]
    assert all(draw.goals is None for draw in menu.draws)


def test_a_prior_with_goals_is_given_those_of_each_path() -> None:
    policy, menu = planner(2, prior=Menu(goal_dim=2))
    goals = np.arange(6, dtype=np.float32).reshape(3, 2)
    policy.choose(np.zeros((3, 2), np.float32), goals, 0)
    first, second = (draw.goals for draw in menu.draws)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first, goals)
    np.testing.assert_array_equal(second, np.repeat(goals, 4, axis=0))


def test_no_call_asks_for_more_than_the_prior_gives() -> None:
    states = np.random.default_rng(0).uniform(-3, 3, (5, 2)).astype(np.float32)
    goals = np.zeros((5, 2), np.float32)
    whole, _ = planner(2)
    cut, menu = planner(2, prior=Menu(max_rows=40))
    np.testing.assert_array_equal(cut.choose(states, goals, 0), whole.choose(states, goals, 0))
    assert [len(draw.states) for draw in menu.draws] == [2, 8, 2, 8, 1, 4]


def test_too_many_paths_are_refused_with_what_is_possible() -> None:
    planner(2, candidates=10, prior=Menu(max_rows=100))
    with pytest.raises(
        ConfigError,
        match=r"11 candidates and depth 2 compare 11\^2 = 121 paths.*at most 100, the rows.*"
        r"at most 10 candidates.*at most depth 1$",
    ):
        planner(2, candidates=11, prior=Menu(max_rows=100))


def distance_in_x(states: np.ndarray, goals: np.ndarray | None) -> np.ndarray:
    assert goals is None
    found: np.ndarray = states[:, 0]
    return found


def one_for_all(states: np.ndarray, goals: np.ndarray | None) -> float:
    del states, goals
    return 0.0


def nan_on_the_left(states: np.ndarray, goals: np.ndarray | None) -> np.ndarray:
    del goals
    return np.where(states[:, 0] < 0, np.nan, 1.0 + states[:, 1])


def states_only(states: np.ndarray) -> np.ndarray:
    return states[:, 0]


def _configured(cost: str, **changes: object) -> Config:
    methods = {"ldcp": {"policy": "ldcp"}}
    return override(
        Config(),
        {"actor.planning.cost": cost, "evaluation.methods": methods, **changes},
    )


def test_a_function_of_the_user_judges() -> None:
    cost = find_cost(_configured(f"{__name__}:distance_in_x"))
    policy, _ = planner(1, cost=cost, goal_dim=0)
    assert policy.goal_dim == 0
    chosen = policy.choose(np.zeros((1, 2), np.float32), None, 0)
    np.testing.assert_array_equal(chosen, MOVES[1:2])
    # NaN is worse than anything.
    policy, _ = planner(1, cost=find_cost(_configured(f"{__name__}:nan_on_the_left")), goal_dim=0)
    chosen = policy.choose(np.array([[0.5, 0.0]], np.float32), None, 0)
    np.testing.assert_array_equal(chosen, MOVES[3:])


def test_one_cost_per_state_is_asked_for_before_anything_is_played() -> None:
    cost = find_cost(_configured(f"{__name__}:one_for_all"))
    with pytest.raises(ConfigError, match=r"one_for_all.*gave shape \(\) for 2 states.*\(2,\)"):
        planner(1, cost=cost, goal_dim=0)


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ("euclidean", "expected data.goal_indices"),
        ("manhattan", "'manhattan', expected 'euclidean' or a function .* package.module:function"),
        ("no_such_package.costs:f", r"cannot import no_such_package.costs \(ModuleNotFoundError"),
        (f"{__name__}:nothing", "has no function nothing"),
        (f"{__name__}:states_only", "expected a function of states and goals: too many"),
    ],
)
def test_a_cost_that_cannot_be_had_is_refused(cost: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_costs(_configured(cost))
