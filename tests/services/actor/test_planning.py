"""Planning over a world whose moves are known, and over trained models and a real prior service."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import services.qlearner.world_model.train
import services.vae.bc.train
from common.models import model_of
from common.rpc.clients import PriorClient
from common.rpc.prior import Samples
from common.store import Artifact, LineageError, Store
from ldcq.bc import Bc
from ldcq.config import Config, ConfigError, VaeConfig, override
from ldcq.nn.model import Dimensions
from ldcq.policies.base import PolicySettings
from ldcq.policies.costs import Cost, check_costs, euclidean, find_cost
from ldcq.policies.ldcp import PlannedPolicy
from ldcq.vae.model import Vae
from ldcq.world_model import WorldModel
from services.actor import train
from services.actor.making import make_policy
from services.actor.models import Models, Predictor, method_models
from services.actor.priors import Priors
from services.actor.report.wording import method_explanations, stage_title
from tests.services.actor.conftest import Pipeline

PLANE = Dimensions(state=2, action=2, latent=2, horizon=4)
MOVES = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], np.float32)


class Menu:
    """A prior that knows four moves; left of x = 0 and above y = 0 they are twice as long."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, np.ndarray | None]] = []

    def sample(self, states: np.ndarray, candidates: int, **options: Any) -> Samples:
        self.calls.append((len(states), options["goals"]))
        assert options["expected_version"] == "p"
        return Samples(np.stack([self.moves(state)[:candidates] for state in states]), "p", 0, 0)

    def moves(self, state: np.ndarray) -> np.ndarray:
        return MOVES * (2 if state[0] < 0 and state[1] > 0 else 1)


class Adding(WorldModel):
    """Where a latent leads: there."""

    def predict(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        return states + latents


def models(**changes: Any) -> Models:
    vae = Vae(PLANE, VaeConfig(encoder="mlp", hidden=4, decoder_hidden=4, min_std=0.1))
    vae.decoder.bound([-1, -1], [1, 1])
    world_model = Adding(PLANE, Config().world_model)
    fields = {"goal_dim": 2, "world_model": world_model, "world_model_version": "w", **changes}
    return Models(vae, None, "v", "p", "p", **fields)


def planner(
    depth: int, candidates: int = 4, max_rows: int = 1000, **changes: Any
) -> tuple[PlannedPolicy, Menu]:
    menu = Menu()
    settings = PolicySettings(
        candidates=candidates,
        execute_steps=4,
        sampling=Config().actor.sampling,
        sample_actions=False,
        max_rows=max_rows,
        depth=depth,
    )
    client = cast(PriorClient, menu)
    made = models(**changes)
    return PlannedPolicy("ldcp", made, client, settings, euclidean([0, 1])), menu


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
    assert [rows for rows, _ in menu.calls] == [5, 20, 80]
    assert all(given is None for _, given in menu.calls)


def test_a_prior_with_goals_is_given_those_of_each_path() -> None:
    policy, menu = planner(2, prior_takes_goals=True)
    goals = np.arange(6, dtype=np.float32).reshape(3, 2)
    policy.choose(np.zeros((3, 2), np.float32), goals, 0)
    np.testing.assert_array_equal(menu.calls[0][1], goals)
    np.testing.assert_array_equal(menu.calls[1][1], np.repeat(goals, 4, axis=0))


def test_no_call_asks_for_more_than_the_prior_gives() -> None:
    states = np.random.default_rng(0).uniform(-3, 3, (5, 2)).astype(np.float32)
    goals = np.zeros((5, 2), np.float32)
    whole, _ = planner(2)
    cut, menu = planner(2, max_rows=40)
    np.testing.assert_array_equal(cut.choose(states, goals, 0), whole.choose(states, goals, 0))
    assert [rows for rows, _ in menu.calls] == [2, 8, 2, 8, 1, 4]


def test_too_many_paths_are_refused_with_what_is_possible() -> None:
    planner(2, candidates=10, max_rows=100)
    with pytest.raises(
        ConfigError,
        match=r"11 candidates and depth 2 compare 11\^2 = 121 paths.*at most 100, the rows.*"
        r"at most 10 candidates.*at most depth 1$",
    ):
        planner(2, candidates=11, max_rows=100)


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


def _policy(cost: Cost, goal_dim: int = 0) -> PlannedPolicy:
    policy, menu = planner(1)
    client = cast(PriorClient, menu)
    return PlannedPolicy("ldcp", models(goal_dim=goal_dim), client, policy.settings, cost)


def test_a_function_of_the_user_judges() -> None:
    cost = find_cost(_configured(f"{__name__}:distance_in_x"))
    policy = _policy(cost)
    assert policy.goal_dim == 0
    chosen = policy.choose(np.zeros((1, 2), np.float32), None, 0)
    np.testing.assert_array_equal(chosen, MOVES[1:2])
    # NaN is worse than anything.
    policy = _policy(find_cost(_configured(f"{__name__}:nan_on_the_left")))
    chosen = policy.choose(np.array([[0.5, 0.0]], np.float32), None, 0)
    np.testing.assert_array_equal(chosen, MOVES[3:])


def test_one_cost_per_state_is_asked_for_before_anything_is_played() -> None:
    cost = find_cost(_configured(f"{__name__}:one_for_all"))
    with pytest.raises(ConfigError, match=r"one_for_all.*gave shape \(\) for 2 states.*\(2,\)"):
        _policy(cost)


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


def test_the_stage_refuses_it_before_it_waits_for_models(tmp_path: Path) -> None:
    empty = Pipeline(_configured("manhattan"), Store(tmp_path), {})
    with pytest.raises(ConfigError, match="manhattan"):
        train.run(empty.context())


@pytest.fixture(scope="module")
def planning(
    pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pipeline, Artifact]:
    """A copy of the pipeline with both new stages, and its evaluation of methods that use them."""
    root = tmp_path_factory.mktemp("planning") / "store"
    shutil.copytree(pipeline.store.root, root, symlinks=True)
    quick = {"batch_size": 256, "epochs": 1}
    config = override(
        pipeline.config,
        {
            "data.goal_indices": [0, 1],
            "world_model": {**quick, "hidden": [16]},
            "bc": {**quick, "hidden": 16},
            "actor.planning": {"depth": 2, "candidates": 5},
            "evaluation.video": False,
            "evaluation.episodes": 2,
            "evaluation.methods": {
                "ldcp": {"policy": "ldcp"},
                "bcp": {"policy": "ldcp", "variant": "bcq_h"},
                "bc": {"policy": "bc"},
                "behaviour": {"policy": "behaviour"},
            },
        },
    )
    made = Pipeline(config, Store(root), pipeline.targets)
    services.qlearner.world_model.train.run(made.context())
    services.vae.bc.train.run(made.context())
    with pytest.MonkeyPatch.context() as patch:  # drawing it takes longer than all the rest
        patch.setattr("services.actor.train.ensure_report", lambda *_: None)
        return made, made.store.load("evaluation", train.run(made.context()))


def test_rows_and_lineage_of_ldcp_and_bc(
    planning: tuple[Pipeline, Artifact],
) -> None:
    made, evaluation = planning
    rows: Any = evaluation.meta.details["rows"]
    assert [row["method"] for row in rows] == ["ldcp", "bcp", "bc", "behaviour"]
    assert [row["candidates"] for row in rows] == [5, 5, None, None]
    assert [row["depth"] for row in rows] == [2, 2, None, None]
    assert [row["execute_steps"] for row in rows] == [4, 4, 1, None]
    store = made.store
    assert evaluation.meta.parents == {
        "dataset": store.meta("bc", store.current("bc") or "").parents["dataset"],
        "vae": store.current("vae"),
        "prior": store.current("prior"),
        "prior.bcq_h": store.current("prior", "bcq_h"),
        "world_model": store.current("world_model"),
        "bc": store.current("bc"),
    }
    explained = dict(method_explanations(rows, {"main": "diffusion", "bcq_h": "gaussian"}))
    assert "5 latents from the gaussian prior" in explained["bcp"]
    assert "2 in a row" in explained["bcp"]
    assert "chosen anew at every step" in explained["BC"]
    assert stage_title("world_model") == "World model: where a latent leads"


def test_bc_acts_on_the_state_it_sees(planning: tuple[Pipeline, Artifact]) -> None:
    made, _ = planning
    artifact = made.store.load("bc", made.store.current("bc") or "")
    network = model_of(artifact, Bc)
    used = Models(network, None, "", "", "", bc_version=artifact.version)
    with Priors(made.config, {}) as none:  # and needs no prior service
        policy = make_policy(made.config, "bc", used, none)
    assert policy.goal_dim == 0
    plan = None
    for seed in range(3):
        states = np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float32)
        actions, plan = policy.act(states, None, plan, None, 0)
        expected = network.act(torch.tensor(states), torch.zeros(6, 0))
        np.testing.assert_allclose(actions, expected.numpy(), rtol=1e-5)
    assert plan is not None
    assert plan.model_versions == f"bc={artifact.version}"


def test_a_world_model_of_another_vae_is_refused() -> None:
    model = models().world_model
    assert model is not None
    config = _configured("euclidean", **{"data.goal_indices": [0, 1]})
    with pytest.raises(LineageError, match="world_model w knows latents of VAE other, but prior p"):
        method_models(config, "ldcp", [models(), Predictor(model, "w", "other")])
    joined = method_models(config, "ldcp", [models(goal_dim=0), Predictor(model, "w2", "v")])
    assert (joined.goal_dim, joined.prior_takes_goals) == (2, False)
    assert joined.parents == {"vae": "v", "prior": "p", "world_model": "w2"}
