"""LDGC (section 4.3): one sample of a prior with goals, over sockets and in an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

import ldcq
import services.prior.train
from cli.export import export
from common.models import model_of
from common.rpc.clients import PinnedPrior, PriorClient
from common.rpc.codec import decode, encode
from common.rpc.errors import CallError
from common.store import Store
from ldcq.config import SamplingConfig, override
from ldcq.latent_prior import Draw
from ldcq.policies.base import Execution, derive_seed
from ldcq.policies.ldgc import LdgcPolicy
from ldcq.registry import find_prior
from ldcq.v1 import actor_pb2
from ldcq.vae.model import Vae
from services.actor.evaluate import prepare_evaluation
from services.actor.method_policy import method_policy
from services.actor.models import models_of_prior
from services.actor.priors import Priors
from services.actor.report import prior_samples
from tests.draws import draw
from tests.services.actor.conftest import Pipeline, Replica
from tests.services.actor.test_policies import acted
from tests.services.actor.test_server import Actor

METHODS: dict[str, Any] = {
    "ldgc": {"policy": "ldgc", "variant": "ldgc"},
    "prior": {"policy": "prior"},
}


@pytest.fixture(scope="module")
def goals(pipeline: Pipeline) -> Iterator[Pipeline]:
    """The pipeline with one more variant, whose prior has goals: one key of the configuration."""
    variants = {"ldgc": {"prior.goal_conditioned": True}}
    changes = {"data.goal_indices": [0, 1], "evaluation.methods": {}, "variants": variants}
    config = override(override(pipeline.config, changes), {"evaluation.methods": METHODS})
    replica = Replica(config, pipeline.store, "ldgc")
    targets = {**pipeline.targets, "ldgc": replica.address}
    made = Pipeline(config, pipeline.store, targets)
    services.prior.train.run(made.context(variant="ldgc"))
    yield made
    replica.stop()


@pytest.fixture(scope="module")
def actor(goals: Pipeline) -> Iterator[Actor]:
    started = Actor(goals, goals.store, goals.targets)
    started.wait_until_serving()
    yield started
    started.stop()


def _some(seed: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, (3, width)).astype(np.float32)


def _plan(actor: Actor, **fields: Any) -> np.ndarray:
    request = actor_pb2.ActorServiceActRequest(states=encode(_some(0, 4)), seed=5, **fields)
    message = actor_pb2.PlanToken.FromString(actor.stub.Act(request).plan_token)
    return decode(message.latents, field="latents", shape=(3, None))


def test_the_vae_is_reused_unchanged(goals: Pipeline) -> None:
    store: Store = goals.store
    versions = [store.current("prior", variant) or "" for variant in ("main", "ldgc")]
    plain, pursuing = (store.meta("prior", version) for version in versions)
    assert plain.parents == pursuing.parents
    assert (plain.dimensions["goal"], pursuing.dimensions["goal"]) == (0, 2)
    assert len(store.versions("vae")) == len(store.versions("latents")) == 1


def test_act_takes_a_sample_for_state_and_goal(actor: Actor, goals: Pipeline) -> None:
    wanted = _some(1, 2)
    with PriorClient(goals.targets["ldgc"]) as client:
        seed = derive_seed(derive_seed(5, 0), 0)
        drawn = client.sample(draw(_some(0, 4), 1, seed=seed, goals=wanted)).latents[:, 0]
    found = _plan(actor, method="ldgc", goals=encode(wanted))
    np.testing.assert_allclose(found, drawn, rtol=1e-5, atol=1e-6)
    other = _plan(actor, method="ldgc", goals=encode(wanted + 1))
    assert not np.allclose(other, drawn)
    without = _plan(actor, method="prior")
    np.testing.assert_array_equal(_plan(actor, method="prior", goals=encode(wanted)), without)


def test_a_prior_with_goals_acts_in_this_process_as_it_does_behind_grpc(goals: Pipeline) -> None:
    store = goals.store
    artifact = store.load("prior", store.current("prior", "ldgc") or "")
    decoder = model_of(store.load("vae", store.current("vae") or ""), Vae)
    here = model_of(artifact, find_prior(artifact.meta.implementation)).sampler()
    with PriorClient(goals.targets["ldgc"]) as client:
        served = client.pinned(artifact.version)
        over_grpc, local = (
            acted(LdgcPolicy(decoder, prior, SamplingConfig(guidance=1.3), Execution(3)))
            for prior in (served, here)
        )
    np.testing.assert_array_equal(local, over_grpc)


def test_describe_says_how_wide_goals_are(actor: Actor) -> None:
    assert actor.stub.Describe(actor_pb2.ActorServiceDescribeRequest()).goal_dim == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"goals: got none; expected shape \(3, 2\)"),
        ({"goals": encode(np.zeros((2, 2), np.float32))}, r"goals: got shape \(2, 2\)"),
        ({"goals": encode(np.full((3, 2), np.inf, np.float32))}, "goals: got inf"),
    ],
)
def test_bad_goals_name_the_field(actor: Actor, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(grpc.RpcError, match=message) as caught:
        _plan(actor, method="ldgc", **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_evaluation_tells_the_policy_the_tasks_goal(
    goals: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    sample = PinnedPrior.sample_async

    def look(self: PinnedPrior, draw: Draw) -> Any:
        asked.append(draw.goals)
        return sample(self, draw)

    monkeypatch.setattr(PinnedPrior, "sample_async", look)
    config = override(
        goals.config, {"evaluation.methods": {"ldgc": METHODS["ldgc"]}, "evaluation.episodes": 1}
    )
    store = goals.store
    artifact = store.load("prior", store.current("prior", "ldgc") or "")
    models = models_of_prior(store, artifact, torch.device("cpu"))
    with Priors(config, goals.targets, goals.store) as priors:
        policies = {"ldgc": method_policy(config, "ldgc", models, priors)}
        evaluation = prepare_evaluation(config, store, policies)
        assert list(evaluation.play()) == [("ldgc", 1)]
    assert [row["method"] for row in evaluation.rows()] == ["ldgc"]
    layout = evaluation.task.layout
    assert layout is not None
    assert layout.goal is not None
    expected = np.tile(layout.goal, (len(asked), 1))
    np.testing.assert_allclose(np.concatenate(asked), expected, rtol=1e-6)


def test_the_report_asks_for_latents_that_lead_where_the_datas_do(
    goals: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior_samples, "MANY", 20)
    monkeypatch.setattr(prior_samples, "NEAR", 10)
    store = goals.store
    versions = {v: store.current("prior", v) or "" for v in ("main", "ldgc")}
    parents = {"prior": versions["main"], "prior.ldgc": versions["ldgc"]}
    evaluated = prior_samples.evaluated_priors(goals.config, store, parents)
    with Priors(goals.config, goals.targets, goals.store) as priors:
        drawn = prior_samples.draw_latents(goals.config, store, priors, evaluated)
    assert {name: rows.shape for name, rows in drawn.priors.items()} == {
        "diffusion": (20, 4),
        "diffusion (ldgc)": (20, 4),
    }
    assert {rows.shape for rows in drawn.priors_near.values()} == {(10, 4)}


def test_an_exported_policy_takes_goals_as_the_service_does(
    actor: Actor, goals: Pipeline, tmp_path: Path
) -> None:
    export(goals.store, goals.config, "ldgc", tmp_path / "policy")
    local = ldcq.load_policy(tmp_path / "policy", seed=5)
    states = _some(0, 4)
    with pytest.raises(ValueError, match=r"goals: got none, expected shape \(3, 2\)"):
        local.act(states)
    with ldcq.connect(actor.address, method="ldgc", seed=5) as remote:
        for seed in range(9):
            wanted = _some(seed, 2)
            expected = remote.act(states, goals=wanted)
            np.testing.assert_array_equal(local.act(states, goals=wanted), expected)
        with pytest.raises(CallError, match=r"goals.*expected shape \(3, 2\)"):
            remote.act(states)
